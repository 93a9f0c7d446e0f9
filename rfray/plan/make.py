"""From a study to its graph. No Ray, MLflow or torch."""

from collections.abc import Iterable, Iterator, Mapping, Sequence

from rfray.cell import Cell
from rfray.data.dataset import DatasetFacts
from rfray.errors import UserError
from rfray.grid import Place
from rfray.models.geometry import geometry
from rfray.models.opaque import AnyNetwork, OpaqueNetwork, trial
from rfray.plan.findings import plan_findings
from rfray.plan.graph import CellPlan, Node, Plan
from rfray.plan.layout import Layout, cells_at
from rfray.plan.nodes import node_groups, stage_nodes
from rfray.plan.searches import search_nodes, searched_groups
from rfray.plan.turning import refuse_unmatched
from rfray.plan.unread import geometry_if_read, left_out_stages
from rfray.stages.registry import stages
from rfray.study import Study
from rfray.study.naming import SEARCH, scope_name


def make_plan(study: Study) -> Plan:
    """Expand a study into its graph.

    Raises:
        UserError: A network's map becomes empty at the data set's image size, a stage's settings
            contradict each other, or a stage cannot run on a cell.
    """
    points = study.points()
    refuse_unmatched(study, points)
    cells = cells_at(points, study)
    _refuse_impossible_networks(cells)
    layout = Layout(study, points)
    nodes: dict[str, Node] = {}
    of_stage: dict[str, dict[Place, list[Node]]] = {}
    for group in searched_groups(layout):
        *samples, chosen = search_nodes(layout, group[0])
        nodes |= {node.key: node for node in (*samples, chosen)}
        of_stage.setdefault(SEARCH, {}).update({one: [chosen] for one in group})
    for name in layout.stages:
        stage = stages()[name]
        of_stage[name] = {one: [] for one in layout.places[name]}
        for group in node_groups(layout, stage):
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
                nodes.setdefault(node.key, node)
                for node in stage_nodes(layout, stage, group, earlier)
            ]
            of_stage[name] |= dict.fromkeys(group, made)
    return Plan(
        study=study,
        cells=tuple(_cell_plans(layout, of_stage)),
        nodes=nodes,
        findings=tuple(plan_findings(layout, cells)),
        turns=layout.turns,
        left_out=left_out_stages(cells, layout.stages),
    )


def _refuse_impossible_networks(cells: Iterable[Cell]) -> None:
    for cell in cells:
        # Outside the try: an error in files of the data set or network names the file itself.
        facts, network = cell.facts, cell.any_network
        who = f"{cell.arch} at {cell.turned_words} on {cell.dataset}"
        try:
            _refuse_other_logits(network, facts)
        except UserError as error:
            if isinstance(network, OpaqueNetwork) and error.where:  # a line of its code
                raise UserError(f"{who}: {error.what}", where=error.where, do=error.do) from error
            raise UserError(error.what, where=who, do=error.do) from error


def _refuse_other_logits(network: AnyNetwork, facts: DatasetFacts) -> None:
    if isinstance(network, OpaqueNetwork):
        logits = trial(network, facts.image_size).logits
    else:
        logits = geometry(network, facts.image_size).layers[-1].shape.channels
    if logits != facts.classes:
        raise UserError(
            f"the network gives {logits} logits, but there are {facts.classes} classes",
            do="its function gets the number of classes: use it for the last layer",
        )


def _cell_plans(
    layout: Layout, of_stage: Mapping[str, Mapping[Place, Sequence[Node]]]
) -> Iterator[CellPlan]:
    seen = set()
    for network in layout.networks:
        cell = layout.cell(network)
        settings = layout.shown(network)
        which = (cell, *(pair for pair in network if pair[0] in settings))
        if which in seen:  # several knobs may give the same network
            continue
        seen.add(which)
        keys = (
            node.key
            for name, nodes in of_stage.items()
            if stages()[name].scope == "cell"
            for one in layout.of_network(network, name)
            for node in nodes[one]
        )
        name = scope_name("cell", cell, layout.varying, settings)
        yield CellPlan(cell, settings, name, geometry_if_read(cell), tuple(dict.fromkeys(keys)))
