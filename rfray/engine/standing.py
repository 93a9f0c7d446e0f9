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
        strays: RUNNING runs of nodes that the plan does not hold.
    """

    finished: Mapping[str, RunRecord]
    unfinished: Mapping[str, RunRecord]
    strays: tuple[RunRecord, ...]


def standing(plan: Plan, runs: Iterable[RunRecord]) -> Standing:
    """Sort the runs of a study, oldest first, by what they mean for `plan`."""
    finished: dict[str, RunRecord] = {}
    unfinished: dict[str, RunRecord] = {}
    strays: list[RunRecord] = []
    for run in runs:
        key = run.tags.get(KEY_TAG, "")
        if key not in plan.nodes:
            if run.status == "RUNNING" and key:
                strays.append(run)
        elif run.status == "FINISHED":
            finished[key] = run
        else:
            unfinished[key] = run
    left = {key: run for key, run in unfinished.items() if key not in finished}
    return Standing(finished, left, tuple(strays))
