"""The tags, params and description of a node's run. Pure."""

import shlex
from collections.abc import Container, Mapping
from typing import Any

from rfray import __version__
from rfray.engine.job import Outcome
from rfray.files.artifacts import digest_of
from rfray.plan import Node, Plan
from rfray.plan.turning import turned_document
from rfray.plan.unread import left_out_document
from rfray.stages.registry import stages
from rfray.study.naming import shown
from rfray.tracking import DIGEST_TAG, NOTE_TAG, WITHHELD_TAG, Measured, RunOpening, RunRecord

ATTEMPT_TAG = "rfray.attempt"

_TRACEBACK_CHARACTERS = 4000


def run_opening(
    node: Node, parent_run: str | None, git: str, earlier: RunRecord | None
) -> RunOpening:
    """The run of a node before its stage starts; `earlier` is the unfinished run to resume."""
    tags = {
        "rfray.stage": node.stage,
        "rfray.key": node.key,
        "rfray.version": __version__,
        "rfray.git": git,
        NOTE_TAG: describe(node),
    }
    if parent_run is not None:
        tags["mlflow.parentRunId"] = parent_run
    if earlier is not None:
        tags[ATTEMPT_TAG] = str(int(earlier.tags.get(ATTEMPT_TAG, "1")) + 1)
        if WITHHELD_TAG in earlier.tags:
            tags[WITHHELD_TAG] = ""
        if "rfray.error" in earlier.tags:
            tags["rfray.previous_error"] = earlier.tags["rfray.error"]
            tags["rfray.error"] = ""
    return RunOpening(name=node.name, tags=tags, params=node.params)


def missing_params(params: Mapping[str, Any], run: RunRecord) -> dict[str, Any]:
    """The params that a run does not hold yet."""
    return {name: value for name, value in params.items() if name not in run.params}


def missing_measurements(outcome: Outcome, logged: Container[tuple[str, int]]) -> list[Measured]:
    """The measurements of an outcome that its run does not hold: not those (metric, step)."""
    return [
        (entry.metric, entry.step, entry.value, entry.timestamp)
        for entry in outcome.measurements
        if (entry.metric, entry.step) not in logged
    ]


def closing_tags(outcome: Outcome) -> dict[str, str]:
    """The tags of a run that has ended."""
    tags = {
        "rfray.seconds": f"{outcome.seconds:.3f}",
        "rfray.host": outcome.host,
        "rfray.hardware": outcome.hardware,
    }
    if outcome.remarks:
        tags["rfray.remark"] = " ".join(outcome.remarks)
    if outcome.status == "failed":
        tags["rfray.error"] = outcome.reason
        tags["rfray.traceback"] = outcome.traceback[-_TRACEBACK_CHARACTERS:]
    else:
        tags[DIGEST_TAG] = digest_of(outcome.digests)
    return tags


def study_document(plan: Plan) -> dict[str, Any]:
    """The study as its experiment keeps it: all settings, and facts of its data sets."""
    facts = {cell.cell.dataset: cell.cell.facts for cell in plan.cells}
    datasets = {
        name: {"classes": known.classes, "test_images": known.test_images}
        for name, known in facts.items()
    }
    return {
        **plan.study.document(),
        "datasets": datasets,
        **turned_document(plan.turns),
        **left_out_document(plan.left_out),
    }


def describe_study(plan: Plan) -> str:
    """A description of the study: its networks and runs, and the command for its tables."""
    axes = plan.study.grid.axes.items()
    swept = " × ".join(f"{name} {values}" for name, values in axes if len(values) > 1)
    networks = f"{len(plan.cells)} networks ({swept})" if swept else "one network"
    analyze = shlex.join(["rfray", "analyze", "--study", plan.study.name])
    return (
        f"as last planned by rfray {__version__}: {networks}, {len(plan.nodes)} runs. Tables and "
        f"figures: `{analyze}`."
    )


def describe(node: Node) -> str:
    """A description of the run in a sentence."""
    params = node.params
    where = f" on {params['dataset']}" if "dataset" in params else ""
    field = params.get("receptive_field", "unknown")
    who = (
        f"{params['arch']} with a receptive field of {field} pixels "
        f"({node.cells[0].turned_words}, width {params['width']:g}){where}"
    )
    seeds = f", seed {params['seed']}" if "seed" in params else ""
    seeds = f", seeds {params['seeds']}" if "seeds" in params else seeds
    chosen = "".join(f", {name} {shown(value)}" for name, value in node.settings.items())
    return f"{node.label}: {who}{seeds}{chosen}, {stages()[node.stage].summary}."
