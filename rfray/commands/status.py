"""`rfray status`: the states of a study's runs, read from the tracking store."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from rfray.engine.standing import standing
from rfray.plan import Plan
from rfray.study.naming import in_short, shown
from rfray.terminal.consoles import plain_table
from rfray.tracking import RunRecord

STATES = ("done", "running", "failed", "interrupted", "missing")
_OF_STATUS = {
    "RUNNING": "running",
    "SCHEDULED": "running",
    "FAILED": "failed",
    "KILLED": "interrupted",
    # It was finished, but its deleted weights are needed again.
    "FINISHED": "missing",
}


Choice = tuple[str, tuple[tuple[str, str], ...]]
"""A stage, and each setting that varies among its runs with its value as text."""


def choice_counts(plan: Plan, runs: Iterable[RunRecord]) -> dict[Choice, Counter[str]]:
    """The number of the plan's runs in each of `STATES`, in the order of the plan.

    Counted by stage and by each combination of the settings that vary. Data sets, networks, kernel
    sizes and seeds do not count as such settings, because most studies vary them.
    """
    stands = standing(plan, runs)
    widths = {cell.width for node in plan.nodes.values() for cell in node.cells}
    counts: dict[Choice, Counter[str]] = {}
    for key, node in plan.nodes.items():
        state = "missing"
        if key in stands.finished:
            state = "done"
        elif key in stands.unfinished:
            state = _OF_STATUS.get(stands.unfinished[key].status, "failed")
        width = {"width": node.cells[0].width} if len(widths) > 1 else {}
        settings = tuple((name, shown(v)) for name, v in {**width, **node.settings}.items())
        counts.setdefault((node.stage, settings), Counter())[state] += 1
    return counts


def by_stage(counts: Mapping[Choice, Counter[str]]) -> dict[str, Counter[str]]:
    """The counts of each stage, over all its settings."""
    stages: dict[str, Counter[str]] = {}
    for (stage, _), count in counts.items():
        stages.setdefault(stage, Counter()).update(count)
    return stages


def status_json(plan: Plan, counts: Mapping[Choice, Counter[str]]) -> dict[str, Any]:
    """The counts as JSON-ready data: `study`, `stages`, `settings`, `totals`."""
    totals = sum(counts.values(), Counter[str]())
    return {
        "study": plan.study.name,
        "stages": {stage: _states(count) for stage, count in by_stage(counts).items()},
        "settings": [
            {"stage": stage, "settings": dict(settings), **_states(count)}
            for (stage, settings), count in counts.items()
            if settings
        ],
        "totals": _states(totals),
    }


def _states(count: Counter[str]) -> dict[str, int]:
    return {state: count[state] for state in STATES}


def status_text(plan: Plan, counts: Mapping[Choice, Counter[str]]) -> RenderableType:
    """The counts as a table: a line for each stage, below it one for each choice of settings."""
    table = plain_table("stage", *(f">{state}" for state in STATES))
    for stage, whole in by_stage(counts).items():
        table.add_row(stage, *_cells(whole))
        for (one, settings), count in counts.items():
            if one == stage and settings:
                words = ", ".join(f"{name} {value}" for name, value in settings)
                table.add_row(Text(f"  {words}"), *_cells(count))
    return Group(Text(plan.study.name, style="bold"), table)


def left_over_text(names: Sequence[str]) -> list[RenderableType]:
    """A note about finished runs that the sweep does not name; nothing if there are none."""
    if not names:
        return []
    runs = "finished run is" if len(names) == 1 else "finished runs are"
    return [
        Text(
            f"{len(names)} {runs} from an earlier sweep and not part of this one: "
            f"{in_short(names)}. Numbers stay; `rfray clean --left-over` deletes their weights"
        )
    ]


def _cells(count: Counter[str]) -> list[str]:
    return [str(count[state] or "·") for state in STATES]
