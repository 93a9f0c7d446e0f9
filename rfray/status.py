"""Where a study stands, read from the ledger: also while it runs, and from another machine."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from rfray.engine.standing import standing
from rfray.plan import Plan
from rfray.tracking import RunRecord

STATES = ("done", "running", "failed", "interrupted", "missing")
_OF_STATUS = {
    "RUNNING": "running",
    "SCHEDULED": "running",
    "FAILED": "failed",
    "KILLED": "interrupted",
}


def status_counts(plan: Plan, runs: Iterable[RunRecord]) -> dict[str, Counter[str]]:
    """Per stage, how many of the plan's runs are in each of `STATES`."""
    stands = standing(plan, runs)
    counts: dict[str, Counter[str]] = {}
    for key, node in plan.nodes.items():
        state = "missing"
        if key in stands.finished:
            state = "done"
        elif key in stands.unfinished:
            state = _OF_STATUS.get(stands.unfinished[key].status, "failed")
        counts.setdefault(node.stage, Counter())[state] += 1
    return counts


def status_json(plan: Plan, counts: Mapping[str, Counter[str]]) -> dict[str, Any]:
    """The counts as JSON-ready data: `study`, `stages`, `totals`."""
    totals = sum(counts.values(), Counter[str]())
    return {
        "study": plan.study.name,
        "stages": {
            stage: {state: count[state] for state in STATES} for stage, count in counts.items()
        },
        "totals": {state: totals[state] for state in STATES},
    }


def status_text(plan: Plan, counts: Mapping[str, Counter[str]]) -> RenderableType:
    """The counts as a table."""
    table = Table(box=None, pad_edge=False)
    table.add_column("stage")
    for state in STATES:
        table.add_column(state, justify="right")
    for stage, count in counts.items():
        table.add_row(stage, *(str(count[state] or "·") for state in STATES))
    return Group(Text(plan.study.name, style="bold"), table)
