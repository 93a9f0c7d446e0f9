"""The nodes of a stage: one for each group of cells and each variant; what their runs log. Pure."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from rfray.cell import Cell
from rfray.errors import UserError
from rfray.grid import Place
from rfray.parameters import Parameters
from rfray.plan.graph import Node
from rfray.plan.keys import digest, identity_of, trunk_digest
from rfray.plan.layout import Layout
from rfray.plan.unread import geometry_if_read, works_without_description
from rfray.stages.stage import Stage, Variant
from rfray.study import Study
from rfray.study.naming import SEARCH, TRAIN, scope_name, stage_label
from rfray.study.settings import CELL_SETTINGS


def node_groups(layout: Layout, stage: Stage[Any]) -> list[tuple[Place, ...]]:
    """The places of each node of `stage`, without networks that the stage cannot work on."""
    groups: dict[tuple[Any, ...], list[Place]] = {}
    for one in layout.places[stage.name]:
        if works_without_description(stage) or geometry_if_read(layout.cell(one)) is not None:
            groups.setdefault(_in_common(layout, stage, one), []).append(one)
    if stage.scope != "seeds":
        return [tuple(group) for group in groups.values()]
    by_seed = (sorted(group, key=lambda one: int(dict(one)["seed"])) for group in groups.values())
    return [tuple(group) for group in by_seed if len(group) > 1]


def _in_common(layout: Layout, stage: Stage[Any], one: Place) -> tuple[Any, ...]:
    """What all places of one node have in common."""
    match stage.scope:
        case "seeds":
            return tuple(pair for pair in one if pair[0] != "seed")
        case "network":
            settings = (pair for pair in one if pair[0] not in CELL_SETTINGS)
            return (trunk_digest(layout.cell(one).network), *settings)
    return one


def stage_nodes(
    layout: Layout, stage: Stage[Any], group: tuple[Place, ...], earlier: Sequence[Node]
) -> Iterator[Node]:
    """The nodes of one stage for one group of places, one for each variant."""
    chosen = layout.chosen(stage, group[0])
    cells = tuple(layout.cell(one) for one in group)
    for cell in cells:
        problem = stage.check(chosen.parameters, cell)
        if problem:
            do = "change that, or leave the stage out"
            raise UserError(problem, where=layout.study.name, do=do)
    _refuse_several_gpus(layout.study, stage, chosen.parameters, cells)
    cells = cells if stage.scope == "seeds" else cells[:1]
    settings = layout.shown(group[0])
    scope = scope_name(stage.scope, cells[0], layout.varying, settings)
    for variant in _variants(stage, chosen.parameters, earlier):
        read = [node for node in earlier if node.variant.items() <= variant.items()]
        inputs = tuple(node.key for node in read)
        above = [node.key for node in read if node.stage in (TRAIN, SEARCH)]
        yield Node(
            key=digest(identity_of(stage, chosen.changed, variant, inputs, cells[0])),
            stage=stage.name,
            variant=variant,
            cells=cells,
            parameters=chosen.parameters,
            name=f"{scope}/{stage_label(stage.name, variant, settings)}",
            inputs=inputs,
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


def scope_params(layout: Layout, stage: Stage[Any], cells: Sequence[Cell]) -> dict[str, Any]:
    """The params of a run that say which network or networks it belongs to."""
    cell = cells[0]
    shape = geometry_if_read(cell)
    of_data = stage.scope != "network"
    params: dict[str, Any] = {"dataset": cell.dataset} if of_data else {}
    params |= {"arch": cell.arch, "kernel_size": cell.kernel_size}
    if shape is not None:
        params["receptive_field"] = shape.receptive_field
    params["width"] = cell.width
    if layout.turns:
        params["knob"], params["strength"] = cell.turned
        if shape is not None:
            params["map_size"] = shape.last_convolution.map_size
    if stage.scope in ("cell", "sample"):
        params["seed"] = cell.seed
    if stage.scope == "seeds":
        params["seeds"] = [member.seed for member in cells]
    if of_data and cell.validation is not None:
        params["train_images"] = cell.facts.train_images
        params["validation_images"] = cell.facts.validation_images
    return params
