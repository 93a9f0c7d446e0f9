"""`rfray redo`: have one run, and all runs that depend on it, computed again."""

import shutil
from dataclasses import dataclass
from datetime import UTC, datetime

from rfray.driver.lease import study_held
from rfray.engine.standing import standing
from rfray.errors import UserError, nearest
from rfray.plan import Plan
from rfray.storage import Storage
from rfray.tracking import KEY_TAG, SUPERSEDED_TAG, LedgerWriter, RunRecord, store_written


@dataclass(frozen=True)
class Redone:
    """The result of `redo`.

    Attributes:
        names: Names of the runs that are now superseded, each after the runs that it read.
        beside: Number of finished runs of the study that are not in the plan, and stay.
    """

    names: list[str]
    beside: int


def redo(plan: Plan, storage: Storage, name: str) -> Redone:
    """Have the next sweep compute a run, and all that depends on it, again.

    The old runs stay in MLflow as superseded.

    Args:
        plan: The study's plan, with the same changes as in its sweep.
        storage: Where the study is.
        name: Name of the run.

    Raises:
        UserError: The plan has no such run, it is not done, or a sweep of the study runs.
    """
    follow = following(plan, name)
    with study_held(plan.study.name, storage) as held, store_written(storage.tracking_uri):
        ledger = held.ledger
        runs = [run for run in ledger.runs(plan.study.name) if not run.tags.get(SUPERSEDED_TAG)]
        if follow[0] not in standing(plan, runs).finished:
            raise UserError(f"'{name}' is not done", do="the next sweep computes it")
        behind = {key: place for place, key in enumerate(follow)}
        old = [run for run in runs if run.tags.get(KEY_TAG) in behind]
        old.sort(key=lambda run: behind[run.tags[KEY_TAG]])
        now = f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC"
        tags = {SUPERSEDED_TAG: f"`rfray redo` of '{name}' on {now}"}
        with ledger.together():
            # Readers first: a run that counts must not depend on one that no longer counts.
            for run in reversed(old):
                _supersede(ledger, run, tags)
        for key in follow:
            shutil.rmtree(storage.checkpoints / key, ignore_errors=True)
    done = [run for run in runs if run.status == "FINISHED"]
    return Redone(
        [run.name for run in old if run.status == "FINISHED"],
        sum(run.tags.get(KEY_TAG) not in plan.nodes for run in done),
    )


def following(plan: Plan, name: str) -> list[str]:
    """Keys of the node of that name and of all nodes that depend on it, in the plan's order.

    Raises:
        UserError: There is no such node.
    """
    names = {node.name: key for key, node in plan.nodes.items()}
    if name not in names:
        raise UserError(f"no run '{name}'", where=plan.study.name, do=nearest(name, names))
    reached = {names[name]}
    for key, node in plan.nodes.items():
        if reached.intersection(node.inputs):
            reached.add(key)
    return [key for key in plan.nodes if key in reached]


def _supersede(ledger: LedgerWriter, run: RunRecord, tags: dict[str, str]) -> None:
    if run.status == "RUNNING":
        ledger.end_run(run.run_id, "KILLED", tags)
    else:
        ledger.log(run.run_id, {}, [], tags)
