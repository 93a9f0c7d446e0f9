"""The nodes of a stage: one for each group of cells and each variant. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from rfray.cell import Cell
from rfray.errors import UserError
from rfray.grid import Place
from rfray.parameters import Parameters
from rfray.plan.graph import Node
from rfray.plan.identity import identity_of, trunk_digest
from rfray.plan.keys import digest
from rfray.plan.layout import Chosen, Layout
from rfray.plan.params import scope_params
from rfray.plan.unread import geometry_if_read, works_without_description
from rfray.stages.stage import Stage, Variant
from rfray.study import Study
from rfray.study.naming import SEARCH, TRAIN, scope_name, stage_label
from rfray.study.settings import CELL_SETTINGS


def node_groups(layout: Layout, stage: Stage[Any]) -> Iterator[tuple[Place, ...]]:
    """The places of each node of `stage`, without networks that the stage cannot work on."""
    places = [
        one
        for one in layout.places[stage.name]
        if works_without_description(stage) or geometry_if_read(layout.cell(one)) is not None
    ]
    match stage.scope:
        case "cell":
            yield from ((one,) for one in places)
        case "seeds":
            groups: dict[Place, list[Place]] = {}
            for one in places:
                groups.setdefault(tuple(pair for pair in one if pair[0] != "seed"), []).append(one)
            for group in groups.values():
                if len(group) > 1:
                    yield tuple(sorted(group, key=lambda one: int(dict(one)["seed"])))
        case "network":
            alike: dict[tuple[Any, ...], list[Place]] = {}
            for one in places:
                settings = (pair for pair in one if pair[0] not in CELL_SETTINGS)
                trunk = trunk_digest(layout.cell(one).network)
                alike.setdefault((trunk, *settings), []).append(one)
            yield from map(tuple, alike.values())


def stage_nodes(
    layout: Layout, stage: Stage[Any], group: tuple[Place, ...], earlier: Sequence[Node]
) -> Iterator[Node]:
    """The nodes of one stage for one group of places, one for each variant."""
    chosen = layout.chosen(stage, group[0])
    parameters = chosen.parameters
    cells = tuple(layout.cell(one) for one in group)
    for cell in cells:
        problem = stage.check(parameters, cell)
        if problem:
            do = "change that, or leave the stage out"
            raise UserError(problem, where=layout.study.name, do=do)
    _refuse_several_gpus(layout.study, stage, parameters, cells)
    cells = cells if stage.scope == "seeds" else cells[:1]
    settings = layout.shown(group[0])
    for variant in _variants(stage, parameters, earlier):
        inputs = [node for node in earlier if node.variant.items() <= variant.items()]
        yield _node(layout, stage, chosen, variant, cells, settings, inputs)


def _refuse_several_gpus(
    study: Study, stage: Stage[Any], parameters: Parameters, cells: Iterable[Cell]
) -> None:
    """UserError if a stage asks for several GPUs but cannot use them."""
    gpus = study.request(stage.name).gpus
    if not isinstance(gpus, float) or gpus <= 1:
        return
    # Batch norms must see the whole batch, and those of an unread network cannot be found.
    unread = [cell.arch for cell in cells if geometry_if_read(cell) is None]
    problem = stage.together(parameters) or (f"{unread[0]} cannot be read" if unread else None)
    if problem:
        raise UserError(
            f"asks for {gpus:g} GPUs, but {problem}",
            where=f"resources.{stage.name}",
            do="ask for one GPU, or change that",
        )


def _variants(stage: Stage[Any], parameters: Parameters, inputs: Iterable[Node]) -> list[Variant]:
    """The variants from a stage's own list, or those of the stage that it reads first."""
    if stage.fan is not None:
        values = getattr(parameters, stage.fan.parameter)
        return [stage.fan.variant_of(value) for value in values]
    if not stage.reads:
        return [{}]
    followed = [node.variant for node in inputs if node.stage == stage.reads[0]]
    return [variant for place, variant in enumerate(followed) if variant not in followed[:place]]


def _node(
    layout: Layout,
    stage: Stage[Any],
    chosen: Chosen,
    variant: Variant,
    cells: tuple[Cell, ...],
    settings: Mapping[str, Any],
    inputs: Sequence[Node],
) -> Node:
    read = [node.key for node in inputs]
    above = [node.key for node in inputs if node.stage in (TRAIN, SEARCH)]
    scope = scope_name(stage.scope, cells[0], layout.varying, settings)
    return Node(
        key=digest(identity_of(stage, chosen.changed, variant, read, cells[0])),
        stage=stage.name,
        variant=variant,
        cells=cells,
        parameters=chosen.parameters,
        name=f"{scope}/{stage_label(stage.name, variant, settings)}",
        inputs=tuple(node.key for node in inputs),
        parent=above[0] if stage.scope == "cell" and above else None,
        settings=settings,
        params={
            **scope_params(layout, stage, cells),
            **settings,
            **chosen.own,
            **(stage.fan.params_of(variant) if stage.fan else variant),
        },
        work=stage.work(chosen.parameters, cells[0]) * len(cells),
    )
