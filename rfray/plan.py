"""The plan: cells × stages as a keyed graph, and what is wrong with it. No Ray, MLflow or torch."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from pydantic import ValidationError

from rfray.cell import Cell
from rfray.data.amount import Amount
from rfray.data.registry import dataset_findings
from rfray.errors import UserError, in_words
from rfray.grid import Place, Point, place, point_at, varying
from rfray.keys import digest
from rfray.models.geometry import Geometry, geometry
from rfray.models.network import Layer, Network
from rfray.models.opaque import AnyNetwork, OpaqueNetwork, trial
from rfray.models.outside import AS_IT_IS, has_one_width
from rfray.naming import OF_A_SEARCH, SAMPLE, SEARCH, TRAIN, scope_name, shown, stage_label
from rfray.parameters import Parameters
from rfray.search_space import Proposal
from rfray.settings import CELL_SETTINGS
from rfray.shelves import left_out
from rfray.stages.registry import stage_code, stages
from rfray.stages.sample import SampleParameters
from rfray.stages.search import DrawnSearch, SearchParameters
from rfray.stages.stage import Stage, Variant
from rfray.study import Study
from rfray.turning import Turn, cell_at, refuse_unmatched, turning_findings, turning_params, turns
from rfray.unread import (
    geometry_if_read,
    left_out_stages,
    unread_findings,
    works_without_description,
)

_OTHERWISE = "change that, or leave the stage out"


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
        parent: Key of the train node, or of the search, that its run stands under; None at the top.
        settings: Those stages' settings that vary in the study and that it depends on, its own
            included, by their dotted names.
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
    settings: Mapping[str, Any]
    params: Mapping[str, Any]
    work: float

    @property
    def label(self) -> str:
        """What it is among the runs of its cell: `prune-0.9`, the last part of its name."""
        return self.name.rpartition("/")[2]


@dataclass(frozen=True)
class CellPlan:
    """One trained network, with its geometry and the keys of the nodes that belong to it alone.

    Attributes:
        cell: What is trained, on what.
        settings: The settings of training that vary in the study, by their dotted names.
        name: What its runs' names begin with.
        geometry: Its network's; None where that cannot be read.
        keys: Of its nodes.
    """

    cell: Cell
    settings: Mapping[str, Any]
    name: str
    geometry: Geometry | None
    keys: tuple[str, ...]


@dataclass(frozen=True)
class Plan:
    """Everything that a study runs.

    Attributes:
        study: The study.
        turns: How far its knobs are turned; none where it only names kernel sizes.
        cells: Its trained networks, in the order of the axes.
        nodes: Every node by its key, each after its inputs.
        findings: What a user should know before starting, a sentence each.
        left_out: By network that cannot be read, the study's stages that are left out for it.
    """

    study: Study
    cells: tuple[CellPlan, ...]
    nodes: Mapping[str, Node]
    findings: tuple[str, ...]
    turns: tuple[Turn, ...] = ()
    left_out: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

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
        UserError: A network's map collapses to nothing at the data set's image size, a stage's
            settings contradict each other, or a stage cannot run on a cell.
    """
    points = study.points()
    refuse_unmatched(study, points)
    cells = _cells_at(points, study)
    _refuse_impossible_networks(cells)
    layout = _Layout(study, points)
    nodes: dict[str, Node] = {}
    of_stage: dict[str, dict[Place, list[Node]]] = {}
    for group in _searched_groups(layout):
        *samples, chosen = _search_nodes(layout, group[0])
        nodes |= {node.key: node for node in (*samples, chosen)}
        of_stage.setdefault(SEARCH, {}).update({one: [chosen] for one in group})
    for name in layout.stages:
        stage = stages()[name]
        of_stage[name] = {one: [] for one in layout.places[name]}
        for group in _groups(layout, stage):
            earlier = [
                node
                for place in group
                for read in of_stage
                if read in stage.reads and stages()[read].scope == "cell"
                for node in of_stage[read][layout.part(place, read)]
            ]
            earlier += [
                node
                for place in group
                for read in stage.may_read
                if read in of_stage
                for node in of_stage[read][place]
            ]
            made = [
                nodes.setdefault(node.key, node) for node in _nodes(layout, stage, group, earlier)
            ]
            of_stage[name] |= dict.fromkeys(group, made)
    return Plan(
        study=study,
        cells=tuple(_cell_plans(layout, of_stage)),
        nodes=nodes,
        findings=tuple(_findings(layout, cells)),
        turns=layout.turns,
        left_out=left_out_stages(cells, layout.stages),
    )


@dataclass(frozen=True)
class _Chosen:
    """A stage's parameters at a place.

    Attributes:
        parameters: All of them.
        own: One node's, without the list that fans out and without what is searched.
        changed: Those among `own` that are not at their default.
    """

    parameters: Parameters
    own: Mapping[str, Any]
    changed: Mapping[str, Any]


class _Layout:
    """Which of the settings that vary each stage depends on, and with them its places.

    A place is a choice of those settings. A stage depends on the cell's settings, on its own, and
    on those of the stages that it reads: one that only a later stage has makes no further place.
    """

    def __init__(self, study: Study, points: Sequence[Point]) -> None:
        self.study = study
        self.stages = tuple(name for name in study.stage_parameters() if name not in OF_A_SEARCH)
        self.varying = varying(points)
        self.turns = turns(study, points)
        names = tuple(dict.fromkeys(name for point in points for name in point))
        network_names = _names_of(names, {TRAIN})
        self._names = {
            stage: _names_of(names, {stage, *stages()[stage].reads}) for stage in self.stages
        }
        self.places = {
            stage: tuple(dict.fromkeys(place(point, mine) for point in points))
            for stage, mine in self._names.items()
        }
        self.networks = tuple(dict.fromkeys(place(point, network_names) for point in points))
        self._shared = {
            stage: tuple(name for name in mine if name in network_names)
            for stage, mine in self._names.items()
        }
        self._chosen: dict[tuple[str, Place], _Chosen] = {}
        self._of_network: dict[tuple[str, Place], list[Place]] = {}
        for stage, ones in self.places.items():
            for one in ones:
                part = place(dict(one), self._shared[stage])
                self._of_network.setdefault((stage, part), []).append(one)

    def chosen(self, stage: Stage[Any], one: Place) -> _Chosen:
        """The parameters of a stage at one of its places."""
        own = tuple(pair for pair in one if pair[0].startswith(f"{stage.name}."))
        if (stage.name, own) not in self._chosen:
            parameters = self.study.parameters_at(stage.name, point_at(own))
            # What fans out says nothing of one node; what is searched is its search's to say.
            unsaid = {stage.fan.parameter} if stage.fan else set()
            unsaid |= {
                name.partition(".")[2]
                for name in self.study.searched
                if name.startswith(f"{stage.name}.")
            }
            self._chosen[stage.name, own] = _Chosen(
                parameters,
                parameters.model_dump(exclude=unsaid),
                parameters.model_dump(exclude=unsaid, exclude_defaults=True),
            )
        return self._chosen[stage.name, own]

    def cell(self, one: Place) -> Cell:
        """The cell at a place."""
        choices = tuple(pair for pair in one if pair[0] in CELL_SETTINGS)
        return _cell(choices, self.study.data.validation, self.study.dilated)

    def part(self, whole: Place, stage: str) -> Place:
        """The place of `stage`, which another one reads, in a place of that other one."""
        return place(dict(whole), self._names[stage])

    def of_network(self, network: Place, stage: str) -> Sequence[Place]:
        """The places of a stage that belong to a trained network."""
        return self._of_network[stage, place(dict(network), self._shared[stage])]

    def shown(self, one: Place) -> dict[str, Any]:
        """The stages' settings at a place, those that vary in the study."""
        return {
            name: value
            for name, value in point_at(one).items()
            if name in self.varying and name not in CELL_SETTINGS
        }


def _names_of(names: Iterable[str], stages: Collection[str]) -> tuple[str, ...]:
    """The cell's settings among `names`, and those of some stages."""
    return tuple(n for n in names if n in CELL_SETTINGS or n.partition(".")[0] in stages)


def _cells_at(points: Iterable[Point], study: Study) -> tuple[Cell, ...]:
    choices = (place(point, CELL_SETTINGS) for point in points)
    return tuple(dict.fromkeys(_cell(one, study.data.validation, study.dilated) for one in choices))


@cache
def _cell(choices: Place, validation: Amount | None, layers: tuple[str, ...]) -> Cell:
    return cell_at(dict(choices), validation, layers)


def _refuse_impossible_networks(cells: Iterable[Cell]) -> None:
    for cell in cells:
        # Outside: what is wrong with the files of either is said of its files.
        facts, network = cell.facts, cell.any_network
        who = f"{cell.arch} at {cell.turned_words} on {cell.dataset}"
        try:
            _refuse_other_logits(_logits(network, facts.image_size), facts.classes)
        except UserError as error:
            if isinstance(network, OpaqueNetwork) and error.where:  # a line of its code
                raise UserError(f"{who}: {error.what}", where=error.where, do=error.do) from error
            raise UserError(error.what, where=who, do=error.do) from error


def _logits(network: AnyNetwork, image_size: int) -> int:
    if isinstance(network, OpaqueNetwork):
        return trial(network, image_size).logits
    return geometry(network, image_size).layers[-1].shape.channels


def _refuse_other_logits(logits: int, classes: int) -> None:
    if logits != classes:
        raise UserError(
            f"the network gives {logits} logits, but there are {classes} classes",
            do="make it of the number of classes that its function is given",
        )


def _groups(layout: _Layout, stage: Stage[Any]) -> Iterator[tuple[Place, ...]]:
    """The places of each node of `stage`; of none where it asks for more than is known."""
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
                trunk = _trunk_digest(layout.cell(one).network)
                alike.setdefault((trunk, *settings), []).append(one)
            yield from map(tuple, alike.values())


@cache
def _network_digest(network: AnyNetwork) -> str:
    if isinstance(network, OpaqueNetwork):
        return digest(["opaque", network.code, network.parameters])
    return _with_code(network, network.layers)


@cache
def _trunk_digest(network: Network) -> str:
    """Of what the number of classes does not change."""
    return _with_code(network, network.trunk)


def _with_code(network: Network, layers: Sequence[Layer]) -> str:
    """Of layers and, where code from outside initialises them, of that code."""
    return digest([layers, network.origin.code] if network.origin else layers)


def _nodes(
    layout: _Layout, stage: Stage[Any], group: tuple[Place, ...], earlier: Sequence[Node]
) -> Iterator[Node]:
    """The nodes of one stage for one group of places, one for each variant."""
    chosen = layout.chosen(stage, group[0])
    parameters = chosen.parameters
    cells = tuple(layout.cell(one) for one in group)
    for cell in cells:
        problem = stage.check(parameters, cell)
        if problem:
            raise UserError(problem, where=layout.study.name, do=_OTHERWISE)
    _refuse_several_gpus(layout.study, stage, parameters, cells)
    cells = cells if stage.scope == "seeds" else cells[:1]
    settings = layout.shown(group[0])
    for variant in _variants(stage, parameters, earlier):
        inputs = [node for node in earlier if node.variant.items() <= variant.items()]
        yield _node(layout, stage, chosen, variant, cells, settings, inputs)


def _refuse_several_gpus(
    study: Study, stage: Stage[Any], parameters: Parameters, cells: Iterable[Cell]
) -> None:
    """UserError if a stage asks for several GPUs and cannot be computed on them."""
    gpus = study.request(stage.name).gpus
    if not isinstance(gpus, float) or gpus <= 1:
        return
    # Its batch norms could not be found, which must see the whole batch.
    unread = [cell.arch for cell in cells if geometry_if_read(cell) is None]
    problem = stage.together(parameters) or (f"{unread[0]} cannot be read" if unread else None)
    if problem:
        raise UserError(
            f"asks for {gpus:g} GPUs, but {problem}",
            where=f"resources.{stage.name}",
            do="ask for one, or leave that out",
        )


def _variants(stage: Stage[Any], parameters: Parameters, inputs: Iterable[Node]) -> list[Variant]:
    """A stage's own fan, or the variants of the stage that it follows."""
    if stage.fan is not None:
        values = getattr(parameters, stage.fan.parameter)
        return [stage.fan.variant_of(value) for value in values]
    if not stage.reads:
        return [{}]
    followed = [node.variant for node in inputs if node.stage == stage.reads[0]]
    return [variant for place, variant in enumerate(followed) if variant not in followed[:place]]


def _node(
    layout: _Layout,
    stage: Stage[Any],
    chosen: _Chosen,
    variant: Variant,
    cells: tuple[Cell, ...],
    settings: Mapping[str, Any],
    inputs: Sequence[Node],
) -> Node:
    read = [node.key for node in inputs]
    above = [node.key for node in inputs if node.stage in (TRAIN, SEARCH)]
    scope = scope_name(stage.scope, cells[0], layout.varying, settings)
    return Node(
        key=digest(_identity(stage, chosen.changed, variant, read, cells[0])),
        stage=stage.name,
        variant=variant,
        cells=cells,
        parameters=chosen.parameters,
        name=f"{scope}/{stage_label(stage.name, variant, settings)}",
        inputs=tuple(node.key for node in inputs),
        parent=above[0] if stage.scope == "cell" and above else None,
        settings=settings,
        params={
            **_scope_params(layout, stage, cells),
            **settings,
            **chosen.own,
            **(stage.fan.params_of(variant) if stage.fan else variant),
        },
        work=stage.work(chosen.parameters, cells[0]) * len(cells),
    )


def _searched_groups(layout: _Layout) -> Iterator[tuple[Place, ...]]:
    """The places of training that each search chooses for; nothing without a search.

    Raises:
        UserError: The cells of one search differ in more than their seed.
    """
    search = layout.study.search_drawn
    if search is None:
        return
    for name in search.per:
        if name == "seed" or name not in layout.study.grid.names:
            raise UserError(
                f"'{name}' is {'what each search has in common' if name == 'seed' else 'no axis'}",
                where=f"{layout.study.name}: search.per",
                do="leave it out",
            )
    groups: dict[Place, list[Place]] = {}
    for one in layout.places[TRAIN]:
        groups.setdefault(place(dict(one), search.per), []).append(one)
    for group in groups.values():
        apart = [name for name in varying([dict(one) for one in group]) if name != "seed"]
        if apart:
            raise UserError(
                f"the cells of one search differ in '{apart[0]}'",
                where=f"{layout.study.name}: search.per",
                do=f"add '{apart[0]}' to search.per",
            )
        yield tuple(group)


def _search_nodes(layout: _Layout, one: Place) -> Iterator[Node]:
    """The samples of one search, and behind them the search itself."""
    search = layout.study.search_drawn
    assert search is not None  # noqa: S101 (there are no groups otherwise)
    samples = [
        _sample_node(layout, one, search, number, drawn)
        for number, drawn in enumerate(search.drawn)
    ]
    for numbers in search.proposed:
        earlier = tuple(node.key for node in samples)
        samples += [_proposed_node(layout, one, search, number, earlier) for number in numbers]
    yield from samples
    cell, settings = layout.cell(one), layout.shown(one)
    stage = stages()[SEARCH]
    own = search.model_dump(include={"metric", "scheduler"})
    own |= {  # how samples were found, their keys say
        "space": {
            name: domain.model_dump(exclude_none=True) for name, domain in search.space.items()
        }
    }
    identity = {
        "stage": stage.name,
        "version": stage.version,
        "parameters": own,
        "inputs": [node.key for node in samples],
    }
    written = {"samples": search.samples, "per": search.per, **own}
    written |= search.model_dump(include={"algorithm", "startup", "at_once"}, exclude_defaults=True)
    written["space"] = json.dumps(own["space"])  # as the study document says it
    yield Node(
        key=digest(identity),
        stage=stage.name,
        variant={},
        cells=(cell,),
        parameters=SearchParameters.model_validate(search.model_dump(exclude={"drawn"})),
        name=f"{scope_name('search', cell, layout.varying, settings)}/{stage.name}",
        inputs=tuple(node.key for node in samples),
        parent=None,
        settings=settings,
        params={**_scope_params(layout, stage, (cell,)), **settings, **written},
        work=stage.work(search, cell),
    )


def _sample_node(
    layout: _Layout, one: Place, search: DrawnSearch, number: int, drawn: Mapping[str, Any]
) -> Node:
    """A training with what a drawn sample tries; its number is no part of its key."""
    tried = {name.partition(".")[2]: value for name, value in drawn.items()}
    usual = layout.chosen(stages()[TRAIN], one).parameters.model_dump()
    given = {**usual, **tried, "metric": search.metric, "scheduler": search.scheduler}
    try:
        parameters = SampleParameters.model_validate(given)
    except ValidationError as error:
        words = ", ".join(f"{name} {shown(value)}" for name, value in drawn.items())
        where = f"{layout.study.name}: search with {words}"
        raise UserError(in_words(error.errors()[0]), where=where) from error
    # Samples that are trained to their end are the same, whatever they are compared by.
    unsaid = {"metric"} if search.scheduler == "none" else set[str]()
    return _node_of_sample(layout, one, number, parameters, unsaid=unsaid, drawn=drawn, inputs=())


def _proposed_node(
    layout: _Layout, one: Place, search: DrawnSearch, number: int, earlier: tuple[str, ...]
) -> Node:
    """A training with what follows from the samples before it."""
    place = next(n.index(number) for n in search.proposed if number in n)
    proposal = Proposal(space=dict(search.space), startup=search.startup, place=place)
    usual = layout.chosen(stages()[TRAIN], one).parameters.model_dump()
    given = {**usual, "metric": search.metric, "scheduler": search.scheduler, "proposal": proposal}
    parameters = SampleParameters.model_validate(given)
    unsaid = {name.partition(".")[2] for name in search.space}
    return _node_of_sample(layout, one, number, parameters, unsaid=unsaid, drawn={}, inputs=earlier)


def _node_of_sample(
    layout: _Layout,
    one: Place,
    number: int,
    parameters: SampleParameters,
    *,
    unsaid: set[str],
    drawn: Mapping[str, Any],
    inputs: tuple[str, ...],
) -> Node:
    """A sample's node.

    Args:
        layout: The study's.
        one: The place of the cell that it trains.
        number: Its number in its search.
        parameters: With what it tries, where that is known.
        unsaid: Parameters that are no part of its key.
        drawn: What it tries, by dotted names; empty where it follows from the samples before it.
        inputs: The keys of those.
    """
    cell, stage = layout.cell(one), stages()[SAMPLE]
    identity = {
        "stage": stage.name,
        "version": stage.version,
        "parameters": parameters.model_dump(exclude_defaults=True, exclude=unsaid),
        "subject": _subject(stage, cell),
    }
    settings = layout.shown(one)
    logged = parameters.model_dump(exclude={"proposal"} | (unsaid if inputs else set()))
    return Node(
        key=digest(identity | ({"inputs": inputs} if inputs else {})),
        stage=stage.name,
        variant={"sample": number},
        cells=(cell,),
        parameters=parameters,
        name=f"{scope_name('sample', cell, layout.varying, settings)}/{SAMPLE}-{number}",
        inputs=inputs,
        parent=None,
        settings={**settings, **drawn},
        params={
            **_scope_params(layout, stage, (cell,)),
            **settings,
            **drawn,
            **logged,
            "sample": number,
        },
        work=stage.work(parameters, cell),
    )


def _search_findings(study: Study) -> Iterator[str]:
    """What is searched, and how thoroughly."""
    search = study.search_drawn
    if search is None:
        return
    space = "; ".join(f"{name} {domain}" for name, domain in search.space.items())
    learning = [number for numbers in search.proposed for number in numbers]
    few = len(search.drawn) + len(learning)
    count = f"{few} samples" if few == search.samples else f"{few} samples, all that differ"
    if learning:
        count += f" ({len(search.drawn)} drawn, then {search.at_once} at a time by Optuna)"
    per = ", ".join(search.per)
    yield f"search: for each {per or 'study'}, {count} of {space}, by {search.metric}"


def _identity(
    stage: Stage[Any],
    changed: Mapping[str, Any],
    variant: Variant,
    inputs: Sequence[str],
    cell: Cell,
) -> dict[str, Any]:
    """All that a node's key is the digest of."""
    return {
        "stage": stage.name,
        "version": stage.version,
        "parameters": changed,
        "variant": variant,
        "inputs": inputs,
        "subject": None if stage.reads else _subject(stage, cell),
        **_outside_code(stage),
    }


def keys_of_fewer_epochs(node: Node) -> Iterator[tuple[int, str]]:
    """Keys that a training would have with fewer epochs, as (epochs, key), the most epochs first.

    None of a training that reads a search, whose settings are not known before it has run.

    Args:
        node: Of the stage `train`.
    """
    if node.inputs:
        return
    stage = stages()[node.stage]
    identity = _identity(stage, {}, node.variant, [], node.cells[0])
    changed = node.parameters.model_dump(exclude_defaults=True)
    usual = type(node.parameters).model_fields["epochs"].default
    for epochs in range(changed.get("epochs", usual) - 1, 0, -1):
        told = {name: value for name, value in changed.items() if name != "epochs"}
        identity["parameters"] = told if epochs == usual else {**told, "epochs": epochs}
        yield epochs, digest(identity)


def _outside_code(stage: Stage[Any]) -> dict[str, str]:
    """What the identity of a node says of a stage from outside besides; nothing of rfray's own."""
    code = stage_code(stage.name)
    return {"code": code} if code else {}


def _subject(stage: Stage[Any], cell: Cell) -> dict[str, Any]:
    """What a node that reads no other one works on."""
    if stage.scope == "network":
        return {"network": _trunk_digest(cell.network)}
    return {
        "dataset": cell.facts.fingerprint,
        "network": _network_digest(cell.any_network),
        "seed": cell.seed,
    }


def _scope_params(layout: _Layout, stage: Stage[Any], cells: Sequence[Cell]) -> dict[str, Any]:
    cell = cells[0]
    params: dict[str, Any] = {
        "dataset": cell.dataset,
        "arch": cell.arch,
        "kernel_size": cell.kernel_size,
        **_field_params(cell),
        "width": cell.width,
        **(turning_params(cell) if layout.turns else {}),
    }
    match stage.scope:
        case "cell" | "sample":
            params["seed"] = cell.seed
        case "seeds":
            params["seeds"] = [member.seed for member in cells]
        case "network":
            del params["dataset"]
    return {**params, **_held_out_params(cell)} if "dataset" in params else params


def _field_params(cell: Cell) -> dict[str, int]:
    """The receptive field; nothing where it is not known."""
    shape = geometry_if_read(cell)
    return {} if shape is None else {"receptive_field": shape.receptive_field}


def _held_out_params(cell: Cell) -> dict[str, int]:
    """On how many images a cell is trained and validated; nothing where none are held out."""
    if cell.validation is None:
        return {}
    facts = cell.facts
    return {"train_images": facts.train_images, "validation_images": facts.validation_images}


def _cell_plans(
    layout: _Layout, of_stage: Mapping[str, Mapping[Place, Sequence[Node]]]
) -> Iterator[CellPlan]:
    told = set()
    for network in layout.networks:
        cell = layout.cell(network)
        settings = layout.shown(network)
        which = (cell, *(pair for pair in network if pair[0] in settings))
        if which in told:  # several knobs may come to one network
            continue
        told.add(which)
        keys = (
            node.key
            for name, nodes in of_stage.items()
            if stages()[name].scope == "cell"
            for one in layout.of_network(network, name)
            for node in nodes[one]
        )
        name = scope_name("cell", cell, layout.varying, settings)
        yield CellPlan(cell, settings, name, geometry_if_read(cell), tuple(dict.fromkeys(keys)))


def _findings(layout: _Layout, cells: Sequence[Cell]) -> Iterator[str]:
    for stage in layout.stages:
        if stages()[stage].scope == "seeds" and len({cell.seed for cell in cells}) < 2:
            yield f"{stage} compares seeds, and the study has one: it will not run"
    yield from left_out()
    yield from unread_findings(cells, layout.stages)
    yield from _width_findings(layout.study, cells)
    yield from _cautions(layout)
    yield from _search_findings(layout.study)
    yield from turning_findings(layout.turns)
    shown = set()
    for cell in cells:
        shape = geometry_if_read(cell)
        dead = 0 if shape is None else shape.dead_fraction
        who = f"{cell.arch} at {cell.turned_words} on {cell.dataset}"
        if dead > 0 and who not in shown:
            shown.add(who)
            yield f"{who}: {dead:.1%} of the convolutions' weights only ever meet padding"
    for dataset, facts in {cell.dataset: cell.facts for cell in cells}.items():
        if facts.validation_images:
            whole = facts.train_images + facts.validation_images
            held_out = f"{facts.validation_images:,} of its {whole:,} training images"
            yield f"{dataset}: {held_out} are held out for validation, the same ones for every cell"
        yield from (f"{dataset}: {finding}" for finding in dataset_findings(dataset))


def _width_findings(study: Study, cells: Sequence[Cell]) -> Iterator[str]:
    """Networks that the study's only width is not for."""
    written = study.axes.model_dump().get("width") or []
    for arch in dict.fromkeys(cell.arch for cell in cells if has_one_width(cell.arch)):
        if len(written) == 1 and written[0] != AS_IT_IS:
            yield f"{arch} has one width, its own: {written[0]:g} is for rfray's networks"


def _cautions(layout: _Layout) -> Iterator[str]:
    """What the stages themselves say of what they were asked for, each sentence once."""
    said = (
        (name, stages()[name].caution(layout.chosen(stages()[name], one).parameters, cell))
        for name, places in layout.places.items()
        for one, cell in ((one, layout.cell(one)) for one in places)
    )
    yield from dict.fromkeys(f"{name} {sentence}" for name, sentence in said if sentence)
