"""A plan in words, tables and JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from datetime import timedelta
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from rfray.cost import core_seconds
from rfray.engine.simulation import Schedule
from rfray.naming import shown
from rfray.plan import CellPlan, Plan
from rfray.power import FEWEST_PAIRS, LEVEL, POWER, resolution


def plan_json(plan: Plan, done: Collection[str]) -> dict[str, Any]:
    """The plan as JSON-ready data: `study`, `cells`, `totals`, `findings`, `seeds`."""
    missing = [node for node in plan.nodes.values() if node.key not in done]
    return {
        "study": plan.study.name,
        "cells": [_cell_json(plan, cell, done) for cell in plan.cells],
        "totals": {
            "cells": len(plan.cells),
            "runs": len(plan.nodes),
            "done": len(plan.nodes) - len(missing),
            "to_do": len(missing),
            "core_hours_to_do": sum(core_seconds(node) for node in missing) / 3600,
        },
        "findings": list(plan.findings),
        "seeds": _seeds_json(plan),
    }


def plan_text(plan: Plan, done: Collection[str]) -> RenderableType:
    """The plan as a person reads it: cells, stages, findings, cost."""
    missing = [node for node in plan.nodes.values() if node.key not in done]
    hours = timedelta(seconds=round(sum(core_seconds(node) for node in missing)))
    return Group(
        Text(
            f"{plan.study.name}: {len(plan.cells)} networks, {len(plan.nodes)} runs", style="bold"
        ),
        _cell_table(plan, done),
        Text(),
        _stage_table(plan, done),
        Text(),
        *(Text(f"note: {finding}", style="yellow") for finding in plan.findings),
        Text(
            f"to do: {len(missing)} runs, about {hours} of one CPU core (estimated, not measured)"
        ),
        Text(seeds_text(_fewest_seeds(plan))),
    )


def seeds_text(n: int) -> str:
    """What difference between two settings n seeds of each can resolve, in a sentence."""
    if n < 2:
        return "one seed: no difference between two settings can be tested"
    found = resolution(n)
    paired = (
        f"paired by seed, {found.paired:.1f} of their difference's"
        if found.paired is not None
        else f"paired by seed it takes {FEWEST_PAIRS}"
    )
    return (
        f"{n} seeds: a test (two-sided at {LEVEL:g}, power {POWER:g}) resolves a difference of "
        f"{found.unpaired:.1f} standard deviations between two settings; {paired}"
    )


def schedule_json(schedule: Schedule, basis: str, price: float | None) -> dict[str, Any]:
    """A simulated schedule as JSON-ready data; seconds, hours of slots, shares."""
    data: dict[str, Any] = {
        "slots": schedule.slots,
        "makespan_seconds": schedule.makespan,
        "utilisation": schedule.utilisation,
        "slot_hours": schedule.slot_hours,
        "basis": basis,
    }
    if price is not None:
        data["cost"] = price * schedule.slot_hours
    return data


def schedule_text(schedule: Schedule, kind: str, basis: str, price: float | None) -> Text:
    """A simulated schedule in a sentence; `kind` is what a slot is."""
    words = (
        f"on {schedule.slots:g} {kind}: {timedelta(seconds=round(schedule.makespan))}, "
        f"{schedule.utilisation:.0%} in use, {schedule.slot_hours:,.1f} {kind} × hours"
    )
    if price is not None:
        words += f", {price * schedule.slot_hours:,.2f} at {price:g} an hour each"
    return Text(f"{words} ({basis})")


def _cell_json(plan: Plan, cell: CellPlan, done: Collection[str]) -> dict[str, Any]:
    choices = cell.cell.model_dump(exclude_none=True)
    return {
        **choices,
        "settings": _settings(plan, cell),
        "name": cell.name,
        "receptive_field": cell.geometry.receptive_field,
        "map_sizes": list(cell.geometry.map_sizes),
        "parameters": cell.geometry.parameters,
        "live_parameters": cell.geometry.live_parameters,
        "stages": {plan.nodes[key].label: "done" if key in done else "to do" for key in cell.keys},
    }


def _seeds_json(plan: Plan) -> dict[str, Any]:
    """The fewest seeds of a cell, and what they resolve: null where nothing can be tested."""
    n = _fewest_seeds(plan)
    found = resolution(n) if n > 1 else None
    return {
        "fewest": n,
        "resolves_unpaired": found and found.unpaired,
        "resolves_paired": found and found.paired,
    }


def _fewest_seeds(plan: Plan) -> int:
    """Of the networks that differ by the seed alone, how many there are at least."""
    alike = Counter(
        (
            cell.cell.model_copy(update={"seed": 0}),
            *((name, shown(value)) for name, value in cell.settings.items()),
        )
        for cell in plan.cells
    )
    return min(alike.values())


def _settings(plan: Plan, cell: CellPlan) -> dict[str, list[Any]]:
    """What a network got of the stages' settings that vary: several values of a dependent stage."""
    got: dict[str, dict[str, Any]] = {name: {shown(v): v} for name, v in cell.settings.items()}
    for key in cell.keys:
        for name, value in plan.nodes[key].settings.items():
            got.setdefault(name, {})[shown(value)] = value
    return {name: list(values.values()) for name, values in got.items()}


def _settings_words(settings: Mapping[str, list[Any]]) -> str:
    return "; ".join(f"{name} {', '.join(map(shown, values))}" for name, values in settings.items())


def _cell_table(plan: Plan, done: Collection[str]) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("cell", min_width=max(len(cell.name) for cell in plan.cells))
    table.add_column("receptive field", justify="right")
    table.add_column("map sizes")
    for heading in ("parameters", "live", "done", "to do"):
        table.add_column(heading, justify="right")
    settings = [_settings_words(_settings(plan, cell)) for cell in plan.cells]
    if any(settings):
        table.add_column("settings")
    for cell, words in zip(plan.cells, settings, strict=True):
        finished = sum(key in done for key in cell.keys)
        table.add_row(
            cell.name,
            str(cell.geometry.receptive_field),
            " ".join(map(str, cell.geometry.map_sizes)),
            f"{cell.geometry.parameters:,}",
            f"{cell.geometry.live_parameters / cell.geometry.parameters:.1%}",
            str(finished),
            str(len(cell.keys) - finished),
            *([words] if any(settings) else []),
        )
    return table


def _stage_table(plan: Plan, done: Collection[str]) -> Table:
    runs = Counter(node.stage for node in plan.nodes.values())
    finished = Counter(node.stage for node in plan.nodes.values() if node.key in done)
    table = Table(box=None, pad_edge=False)
    for heading in ("stage", "runs", "done", "to do"):
        table.add_column(heading, justify="left" if heading == "stage" else "right")
    for stage, count in runs.items():
        table.add_row(stage, str(count), str(finished[stage]), str(count - finished[stage]))
    return table
