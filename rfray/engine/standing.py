"""What the ledger already holds of a plan: nodes that are done, runs to take up again."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from rfray.plan import Plan
from rfray.tracking import RunRecord

KEY_TAG = "rfray.key"


@dataclass(frozen=True)
class Standing:
    """How far a plan has come.

    Attributes:
        finished: The FINISHED run of each node that has one (the latest, were there several).
        unfinished: The latest run of each other node that has one: RUNNING (its driver may have
            died), FAILED or KILLED.
        strays: Other RUNNING runs: of nodes that the plan does not hold, and those that another run
            of the same node has overtaken.
    """

    finished: Mapping[str, RunRecord]
    unfinished: Mapping[str, RunRecord]
    strays: tuple[RunRecord, ...]


def standing(plan: Plan, runs: Iterable[RunRecord]) -> Standing:
    """Sort the runs of a study, oldest first, by what they mean for `plan`."""
    finished: dict[str, RunRecord] = {}
    unfinished: dict[str, RunRecord] = {}
    running: list[RunRecord] = []
    for run in runs:
        key = run.tags.get(KEY_TAG, "")
        if key and run.status == "RUNNING":
            running.append(run)
        if key in plan.nodes:
            (finished if run.status == "FINISHED" else unfinished)[key] = run
    left = {key: run for key, run in unfinished.items() if key not in finished}
    taken_up = {run.run_id for run in left.values()}
    strays = tuple(run for run in running if run.run_id not in taken_up)
    return Standing(finished, left, strays)
