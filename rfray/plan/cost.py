"""What a plan costs: from what its finished runs took, else from a count of operations. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from rfray.plan import Node, Plan
from rfray.stages.registry import stages

MULTIPLICATIONS_PER_CORE_SECOND = 6e9
"""Float32 multiply-accumulates that one CPU core does in a second: measured on an AVX2 EPYC core
with the quickstart's networks, where it lay between 3e9 (ResNet50) and 10e9 (VGG)."""

MULTIPLICATIONS_PER_GPU_SECOND = 2e13
"""Multiply-accumulates that one GPU does in a second where it sustains 40 TFLOP/s: reckoned from
what recent GPUs reach with bfloat16 convolutions. An H200 reached 66 to 79 where maps are large,
and 9 to 11 where they are small (docs/gpus.md)."""


def core_seconds(node: Node) -> float:
    """Estimated seconds of one CPU core."""
    return node.work / MULTIPLICATIONS_PER_CORE_SECOND


def weight_bytes(plan: Plan) -> float:
    """Bytes that the weights of all runs of a plan take, reckoned."""
    return sum(
        stages()[node.stage].size(node.variant, node.cells[0]) for node in plan.nodes.values()
    )


@dataclass(frozen=True)
class Durations:
    """How long nodes take, and what that rests on.

    Attributes:
        of: Seconds of a node.
        measured: Finished runs that it rests on; 0 for an estimate from operations alone.
    """

    of: Callable[[Node], float]
    measured: int


def durations(
    plan: Plan, taken: Mapping[str, float], operations_per_second: Callable[[Node], float]
) -> Durations:
    """Seconds of every node of a plan, finished or not.

    A node takes what it took. One that has not run takes the mean of those of its stage and of
    equal parameters but the seed; failing that, its operations at the pace of its stage's finished
    runs, of all finished runs, or at `operations_per_second`, the first of these that there is.

    Args:
        plan: The plan.
        taken: Seconds that finished nodes took, by key.
        operations_per_second: Multiply-accumulates of a node, where nothing was measured.
    """
    alike: dict[Any, list[float]] = {}
    by_stage: dict[str, list[tuple[float, float]]] = {}
    for key, seconds in taken.items():
        node = plan.nodes[key]
        alike.setdefault(_kind(node), []).append(seconds)
        by_stage.setdefault(node.stage, []).append((node.work, seconds))
    paces = {stage: _pace(measured) for stage, measured in by_stage.items()}
    overall = _pace(pair for pairs in by_stage.values() for pair in pairs)

    def seconds_of(node: Node) -> float:
        if node.key in taken:
            return taken[node.key]
        if node.stage in by_stage and (same := alike.get(_kind(node))):
            return fmean(same)
        return node.work / (paces.get(node.stage) or overall or operations_per_second(node))

    return Durations(seconds_of, len(taken))


def _kind(node: Node) -> Any:
    """What nodes share that differ in their seed alone."""
    params = {name: value for name, value in node.params.items() if name not in ("seed", "seeds")}
    return node.stage, tuple(sorted((name, str(value)) for name, value in params.items()))


def _pace(measured: Iterable[tuple[float, float]]) -> float | None:
    """Operations per second over runs of (operations, seconds); None where there is nothing."""
    pairs = list(measured)
    seconds = sum(second for _, second in pairs)
    work = sum(operations for operations, _ in pairs)
    return work / seconds if seconds > 0 and work > 0 else None
