"""The graph that a study becomes: its nodes, its cells, and the whole of them. Plain data."""

from __future__ import annotations

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
