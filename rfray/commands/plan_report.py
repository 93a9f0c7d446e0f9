"""A plan as text and as JSON."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from rfray.commands.power import FEWEST_PAIRS, LEVEL, POWER, resolution
from rfray.engine.simulation import Schedule
from rfray.engine.standing import taken_words
from rfray.models.knobs import POOL
from rfray.models.stem import NO_POOL
from rfray.plan import CellPlan, Plan
from rfray.plan.cost import core_seconds, weight_bytes
from rfray.plan.turning import Turn
from rfray.study.naming import shown
from rfray.terminal.consoles import plain_table

NOT_KNOWN = "–"
"""Shown in place of numbers that are not known for a network that cannot be read."""


def plan_json(
    plan: Plan, done: Collection[str], taken: Mapping[str, str], notes: Sequence[str]
) -> dict[str, Any]:
    """The plan as JSON-ready data: `study`, `cells`, `totals`, `findings`, `seeds`.

    Args:
        plan: The plan.
        done: Keys of the runs that are done.
        taken: For runs that will be reused, by key: the study that computed them.
        notes: Notes besides the plan's own findings, in sentences.
    """
    missing = [key for key in plan.nodes if key not in done and key not in taken]
    return {
        "study": plan.study.name,
        "cells": [_cell_json(plan, cell, done, taken) for cell in plan.cells],
        "totals": {
            "cells": len(plan.cells),
            "runs": len(plan.nodes),
            "done": len(plan.nodes) - len(missing) - len(taken),
            "to_do": len(missing),
            "core_hours_to_do": sum(core_seconds(plan.nodes[key]) for key in missing) / 3600,
            "weight_bytes": weight_bytes(plan),
            **({"taken_over": dict(Counter(taken.values()))} if taken else {}),
        },
        "findings": [*plan.findings, *notes],
        "seeds": _seeds_json(plan),
        **({"turned": _turns_json(plan.turns)} if plan.turns else {}),
    }


def plan_text(
    plan: Plan, done: Collection[str], taken: Mapping[str, str], notes: Sequence[str]
) -> RenderableType:
    """The plan as text: cells, stages, findings, cost. Arguments as for `plan_json`."""
    done = {*done, *taken}
    missing = [node for node in plan.nodes.values() if node.key not in done]
    hours = timedelta(seconds=round(sum(core_seconds(node) for node in missing)))
    turns: list[RenderableType] = [_turn_table(plan.turns), Text()] if plan.turns else []
    return Group(
        Text(
            f"{plan.study.name}: {len(plan.cells)} networks, {len(plan.nodes)} runs", style="bold"
        ),
        _cell_table(plan, done),
        Text(),
        *turns,
        _stage_table(plan, done),
        Text(),
        *(Text(f"note: {words}", style="yellow") for words in (*plan.findings, *notes)),
        Text(
            f"to do: {len(missing)} runs, about {hours} of one CPU core (estimated, not measured)"
        ),
        *([Text(taken_words(Counter(taken.values())))] if taken else []),
        Text(f"weights of all runs on disk: at most about {in_bytes(weight_bytes(plan))}"),
        Text(seeds_text(_fewest_seeds(plan))),
    )


def in_bytes(size: float) -> str:
    """A size in words: `38 MB`, `17.9 GB`."""
    return f"{size / 1e9:,.1f} GB" if size >= 1e9 else f"{size / 1e6:,.0f} MB"


def seeds_text(n: int) -> str:
    """The difference between two settings that a test with n seeds can find, in a sentence."""
    if n < 2:
        return "one seed: no difference between two settings can be tested"
    found = resolution(n)
    paired = (
        f"paired by seed, of {found.paired:.1f} standard deviations of the differences"
        if found.paired is not None
        else f"a test paired by seed needs {FEWEST_PAIRS} seeds"
    )
    return (
        f"{n} seeds: a test (two-sided at {LEVEL:g}, power {POWER:g}) finds a difference between "
        f"two settings of {found.unpaired:.1f} standard deviations; {paired}"
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


def _cell_json(
    plan: Plan, cell: CellPlan, done: Collection[str], taken: Mapping[str, str]
) -> dict[str, Any]:
    """A network with its runs; values of the geometry are null if the network cannot be read."""
    shape, size = cell.geometry, cell.cell.facts.image_size
    return {
        **cell.cell.model_dump(exclude_none=True),
        "settings": _settings(plan, cell),
        "name": cell.name,
        "parameters": cell.cell.parameters,
        "receptive_field": shape and shape.receptive_field,
        "field_over_image": shape and shape.receptive_field / size,
        "layers_beyond_image": shape and list(shape.beyond(size)),
        "map_sizes": shape and list(shape.map_sizes),
        "live_parameters": shape and shape.live_parameters,
        "stages": {plan.nodes[key].label: _state(key, done, taken) for key in cell.keys},
    }


def _state(key: str, done: Collection[str], taken: Mapping[str, str]) -> str:
    if key in done:
        return "done"
    return f"reused from {taken[key]}" if key in taken else "to do"


def _seeds_json(plan: Plan) -> dict[str, Any]:
    """The fewest seeds of a cell, and the differences they can find; null if none."""
    n = _fewest_seeds(plan)
    found = resolution(n) if n > 1 else None
    return {
        "fewest": n,
        "resolves_unpaired": found and found.unpaired,
        "resolves_paired": found and found.paired,
    }


def _fewest_seeds(plan: Plan) -> int:
    """The smallest number of networks that differ in the seed only."""
    alike = Counter(
        (
            cell.cell.model_copy(update={"seed": 0}),
            *((name, shown(value)) for name, value in cell.settings.items()),
        )
        for cell in plan.cells
    )
    return min(alike.values())


def _settings(plan: Plan, cell: CellPlan) -> dict[str, list[Any]]:
    """The varying stage settings of a network; a stage after training may have several values."""
    given = (cell.settings, *(plan.nodes[key].settings for key in cell.keys))
    return _distinct(pair for settings in given for pair in settings.items())


def _stage_settings(plan: Plan, stage: str) -> dict[str, list[Any]]:
    """The varying settings of a stage, with their values in the order of the plan."""
    return _distinct(
        (name, value)
        for node in plan.nodes.values()
        for name, value in node.settings.items()
        if node.stage == stage == name.partition(".")[0]
    )


def _distinct(settings: Iterable[tuple[str, Any]]) -> dict[str, list[Any]]:
    """The different values of each setting."""
    got: dict[str, dict[str, Any]] = {}
    for name, value in settings:
        got.setdefault(name, {})[shown(value)] = value
    return {name: list(values.values()) for name, values in got.items()}


def _settings_words(settings: Mapping[str, list[Any]]) -> str:
    return "; ".join(f"{name} {', '.join(map(shown, values))}" for name, values in settings.items())


def _cell_table(plan: Plan, done: Collection[str]) -> Table:
    settings = []
    for cell in plan.cells:
        varied = _settings(plan, cell).items()
        # Those of training are in the network's name.
        beyond_name = {name: values for name, values in varied if name not in cell.settings}
        settings.append(_settings_words(beyond_name))
    last = ["settings"] if len(set(settings)) > 1 else []
    table = plain_table(
        *("cell", ">receptive field", ">of image", ">beyond it", "map sizes"),
        *(">parameters", ">live", ">done", ">to do", *last),
    )
    table.columns[0].min_width = max(len(cell.name) for cell in plan.cells)
    for cell, words in zip(plan.cells, settings, strict=True):
        finished = sum(key in done for key in cell.keys)
        *shape, live = _geometry_words(cell)
        numbers = (f"{cell.cell.parameters:,}", live, str(finished), str(len(cell.keys) - finished))
        table.add_row(cell.name, *shape, *numbers, *(words for _ in last))
    return table


def _geometry_words(cell: CellPlan) -> Sequence[str]:
    """The five columns of `_cell_table` that follow from the geometry."""
    shape, size = cell.geometry, cell.cell.facts.image_size
    if shape is None:
        return (NOT_KNOWN,) * 5
    convolutions = sum(
        layer.name in shape.convolution_names and layer.window.jump > 0 for layer in shape.layers
    )
    return (
        str(shape.receptive_field),
        f"{shape.receptive_field / size:.1f}×",
        f"{len(shape.beyond(size))} of {convolutions}",
        " ".join(map(str, shape.map_sizes)),
        f"{shape.live_parameters / shape.parameters:.1%}",
    )


def _turn_table(made: Sequence[Turn]) -> Table:
    """What each knob was asked for, and the result."""
    table = plain_table(
        *("network", "data set", "knob", "asked for", ">strength"),
        *(">receptive field", ">last map", ">parameters", ">dead weights"),
    )
    for turn in made:
        shape = turn.geometry
        table.add_row(
            turn.arch,
            turn.dataset,
            turn.knob,
            f"{'field' if turn.by_field else 'strength'} {turn.asked}",
            "as it is" if turn.cell.turned == (POOL, NO_POOL) else str(turn.cell.turned[1]),
            NOT_KNOWN if shape is None else str(shape.receptive_field),
            NOT_KNOWN if shape is None else str(shape.map_sizes[-1]),
            f"{turn.cell.parameters:,}",
            NOT_KNOWN if shape is None else f"{shape.dead_fraction:.1%}",
        )
    return table


def _turns_json(made: Sequence[Turn]) -> list[dict[str, Any]]:
    return [
        {
            "dataset": turn.dataset,
            "arch": turn.arch,
            "knob": turn.knob,
            "asked_receptive_field" if turn.by_field else "asked_strength": turn.asked,
            "turned": dict(zip(("knob", "strength"), turn.cell.turned, strict=True)),
            "receptive_field": shape and shape.receptive_field,
            "comes_near": not turn.misses,
            "map_sizes": shape and list(shape.map_sizes),
            "parameters": turn.cell.parameters,
            "dead_fraction": shape and shape.dead_fraction,
        }
        for turn, shape in ((turn, turn.geometry) for turn in made)
    ]


def _stage_table(plan: Plan, done: Collection[str]) -> Table:
    runs = Counter(node.stage for node in plan.nodes.values())
    finished = Counter(node.stage for node in plan.nodes.values() if node.key in done)
    settings = {stage: _settings_words(_stage_settings(plan, stage)) for stage in runs}
    last = ["settings that vary"] if any(settings.values()) else []
    table = plain_table("stage", ">runs", ">done", ">to do", *last)
    for stage, count in runs.items():
        numbers = (str(count), str(finished[stage]), str(count - finished[stage]))
        table.add_row(stage, *numbers, *(settings[stage] for _ in last))
    return table
