"""The graph of a study: nodes, cells, and the whole plan. Plain data."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from rfray.cell import Cell
from rfray.models.geometry import Geometry
from rfray.parameters import Parameters
from rfray.plan.turning import Turn
from rfray.stages.stage import Variant
from rfray.study import Study


@dataclass(frozen=True)
class Node:
    """One stage of one cell (or group of cells): one MLflow run.

    Attributes:
        key: Content key; equal work has an equal key.
        variant: Which of the stage's nodes for these cells it is.
        cells: Its cells: one, or a group of seeds.
        name: Run name, such as `vgg19_rf-cifar10-k3-seed0/prune-0.9`.
        inputs: Keys of the nodes that it reads.
        parent: Key of the train node, or of the search, that is its run's parent; None if its run
            has none.
        settings: The settings of stages that vary in the study and that it depends on, by their
            dotted names.
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
        """The last part of its name: `prune-0.9`."""
        return self.name.rpartition("/")[2]


@dataclass(frozen=True)
class CellPlan:
    """One trained network, with its geometry and the keys of its nodes.

    Attributes:
        settings: The settings of training that vary in the study, by their dotted names.
        name: The first part of its runs' names.
        geometry: Geometry of the network; None if the network cannot be read.
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
        cells: Its trained networks, in the order of the axes.
        nodes: Every node by its key, each after its inputs.
        findings: What a user should know before the start, in sentences.
        turns: How far its knobs are turned; empty if it only names kernel sizes.
        left_out: For each network that cannot be read: the stages that do not run on it.
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
