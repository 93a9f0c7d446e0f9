"""The plan: cells × stages as a keyed graph, and what is wrong with it. No Ray, MLflow or torch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import groupby
from typing import Any

from rfray.cell import Cell
from rfray.errors import UserError
from rfray.keys import digest
from rfray.models.geometry import Geometry, geometry
from rfray.models.network import GlobalAveragePool, Network
from rfray.parameters import Parameters
from rfray.stages.registry import stages
from rfray.stages.stage import Stage, Variant, label
from rfray.study import Study


@dataclass(frozen=True)
class Node:
    """One stage of one cell (or group of cells): one MLflow run.

    Attributes:
        key: Content key; equal work has an equal key.
        stage: The stage's name.
        variant: Which of the stage's nodes in this scope it is.
        cells: Its cells: one, or those of a group of seeds.
        parameters: The stage's parameters.
        name: Run name, such as `vgg19_rf-cifar10-k3-seed0/prune-0.9`.
        inputs: Keys of the nodes that it reads.
        parent: Key of the train node that its run stands under; None at the top.
        params: What the run logs as params.
        work: Estimated multiply-accumulate operations.
    """

    key: str
    stage: str
    variant: Variant
    cells: tuple[Cell, ...]
    parameters: Parameters
    name: str
    inputs: tuple[str, ...]
    parent: str | None
    params: Mapping[str, Any]
    work: float


@dataclass(frozen=True)
class CellPlan:
    """One cell with its geometry and the keys of the nodes that belong to it alone."""

    cell: Cell
    name: str
    geometry: Geometry
    keys: tuple[str, ...]


@dataclass(frozen=True)
class Plan:
    """Everything that a study runs.

    Attributes:
        study: The study.
        cells: Its cells, in the order of the axes.
        nodes: Every node by its key, each after its inputs.
        findings: What a user should know before starting, a sentence each.
    """

    study: Study
    cells: tuple[CellPlan, ...]
    nodes: Mapping[str, Node]
    findings: tuple[str, ...]

    def dependents(self) -> dict[str, list[str]]:
        """Keys of the nodes that read each node."""
        readers: dict[str, list[str]] = {key: [] for key in self.nodes}
        for node in self.nodes.values():
            for key in node.inputs:
                readers[key].append(node.key)
        return readers


def make_plan(study: Study) -> Plan:
    """Expand a study into its graph.

    Raises:
        UserError: A network's map collapses to nothing at the data set's image size, or a stage
            cannot run on a cell.
    """
    cells = tuple(study.cells())
    _refuse_impossible(study, cells)
    nodes: dict[str, Node] = {}
    of_cell: dict[Cell, list[Node]] = {cell: [] for cell in cells}
    for name, parameters in study.stage_parameters().items():
        stage = stages()[name]
        for group in _groups(stage, cells):
            earlier = [node for cell in group for node in of_cell[cell]]
            for node in _nodes(study, stage, parameters, group, earlier):
                if node.key in nodes:
                    continue
                nodes[node.key] = node
                if stage.scope == "cell":
                    of_cell[group[0]].append(node)
    return Plan(
        study=study,
        cells=tuple(_cell_plan(study, cell, of_cell[cell]) for cell in cells),
        nodes=nodes,
        findings=tuple(_findings(study, cells)),
    )


def _refuse_impossible(study: Study, cells: Sequence[Cell]) -> None:
    for cell in cells:
        network, image_size = cell.network, cell.facts.image_size
        try:
            geometry(network, image_size)
        except UserError as error:
            where = f"{cell.arch} at kernel_size {cell.kernel_size} on {cell.dataset}"
            raise UserError(error.what, where=where, do=error.do) from error
    for name, parameters in study.stage_parameters().items():
        for cell in cells:
            problem = stages()[name].check(parameters, cell)
            if problem:
                raise UserError(problem, where=study.name, do="ask for less")


def _groups(stage: Stage[Any], cells: Sequence[Cell]) -> Iterator[tuple[Cell, ...]]:
    """The cells of each node of `stage`."""
    match stage.scope:
        case "cell":
            yield from ((cell,) for cell in cells)
        case "seeds":
            ordered = sorted(cells, key=_but_seed)
            for _, group in groupby(ordered, key=_but_seed):
                seeds = tuple(sorted(group, key=lambda cell: cell.seed))
                if len(seeds) > 1:
                    yield seeds
        case "network":
            stands_for: dict[str, Cell] = {}
            for cell in cells:
                stands_for.setdefault(_trunk_digest(cell.network), cell)
            yield from ((cell,) for cell in stands_for.values())


def _but_seed(cell: Cell) -> tuple[Any, ...]:
    return tuple(value for name, value in cell if name != "seed")


@cache
def _network_digest(network: Network) -> str:
    return digest(network.layers)


@cache
def _trunk_digest(network: Network) -> str:
    """Of the layers before the global pool: what the number of classes does not change."""
    kinds = [type(layer.operation) for layer in network]
    return digest(network.layers[: kinds.index(GlobalAveragePool)])


def _nodes(
    study: Study,
    stage: Stage[Any],
    parameters: Parameters,
    group: tuple[Cell, ...],
    earlier: Sequence[Node],
) -> Iterator[Node]:
    """The nodes of one stage for one group of cells, one for each variant."""
    readable = [node for node in earlier if node.stage in stage.reads]
    for variant in _variants(stage, parameters, readable):
        inputs = [node for node in readable if node.variant.items() <= variant.items()]
        yield _node(study, stage, parameters, variant, group, inputs)


def _variants(stage: Stage[Any], parameters: Parameters, inputs: Iterable[Node]) -> list[Variant]:
    """A stage's own fan, or the variants of the stage that it follows."""
    if stage.fan is not None:
        values = getattr(parameters, stage.fan.parameter)
        return [{stage.fan.variant: value} for value in values]
    if not stage.reads:
        return [{}]
    followed = [node.variant for node in inputs if node.stage == stage.reads[0]]
    return [variant for place, variant in enumerate(followed) if variant not in followed[:place]]


def _node(
    study: Study,
    stage: Stage[Any],
    parameters: Parameters,
    variant: Variant,
    cells: tuple[Cell, ...],
    inputs: Sequence[Node],
) -> Node:
    settings = _settings(stage, parameters)
    changed = parameters.model_dump(exclude_defaults=True)
    identity = {
        "stage": stage.name,
        "version": stage.version,
        "parameters": {name: value for name, value in changed.items() if name in settings},
        "variant": variant,
        "inputs": [node.key for node in inputs],
        "subject": None if inputs else _subject(stage, cells[0]),
    }
    trained = [node.key for node in inputs if node.stage == "train"]
    return Node(
        key=digest(identity),
        stage=stage.name,
        variant=variant,
        cells=cells,
        parameters=parameters,
        name=f"{_scope_name(study, stage, cells)}/{label(stage.name, variant)}",
        inputs=tuple(node.key for node in inputs),
        parent=trained[0] if stage.scope == "cell" and trained else None,
        params={**_scope_params(stage, cells), **settings, **variant},
        work=stage.work(parameters, cells[0]) * len(cells),
    )


def _settings(stage: Stage[Any], parameters: Parameters) -> dict[str, Any]:
    """A node's own parameters, without the list that fans out: it says nothing of one node."""
    fanned = {stage.fan.parameter} if stage.fan else set()
    return parameters.model_dump(exclude=fanned)


def _subject(stage: Stage[Any], cell: Cell) -> dict[str, Any]:
    """What a node that reads no other one works on."""
    if stage.scope == "network":
        return {"network": _trunk_digest(cell.network)}
    return {
        "dataset": cell.facts.fingerprint,
        "network": _network_digest(cell.network),
        "seed": cell.seed,
    }


def _scope_name(study: Study, stage: Stage[Any], cells: Sequence[Cell]) -> str:
    cell = cells[0]
    parts = [cell.arch]
    if stage.scope != "network":
        parts.append(cell.dataset)
    parts.append(f"k{cell.kernel_size}")
    if stage.scope == "cell":
        parts.append(f"seed{cell.seed}")
    if len(study.axes.width) > 1:
        parts.append(f"width{cell.width}")
    return "-".join(parts)


def _scope_params(stage: Stage[Any], cells: Sequence[Cell]) -> dict[str, Any]:
    cell = cells[0]
    params: dict[str, Any] = {
        "dataset": cell.dataset,
        "arch": cell.arch,
        "kernel_size": cell.kernel_size,
        "receptive_field": cell.geometry.receptive_field,
        "width": cell.width,
    }
    match stage.scope:
        case "cell":
            params["seed"] = cell.seed
        case "seeds":
            params["seeds"] = [member.seed for member in cells]
        case "network":
            del params["dataset"]
    return params


def _cell_plan(study: Study, cell: Cell, nodes: Sequence[Node]) -> CellPlan:
    name = _scope_name(study, stages()["train"], (cell,))
    return CellPlan(cell, name, cell.geometry, tuple(node.key for node in nodes))


def _findings(study: Study, cells: Sequence[Cell]) -> Iterator[str]:
    for stage in study.stage_parameters():
        if stages()[stage].scope == "seeds" and len(study.axes.seed) < 2:
            yield f"{stage} compares seeds, and the study has one: it will not run"
    shown = set()
    for cell in cells:
        dead = cell.geometry.dead_fraction
        who = f"{cell.arch} at kernel_size {cell.kernel_size} on {cell.dataset}"
        if dead > 0 and who not in shown:
            shown.add(who)
            yield f"{who}: {dead:.1%} of the convolutions' weights only ever meet padding"
