"""What a plan costs: from the time of finished runs, else from a count of operations. Pure."""

from collections.abc import Callable, Iterable, Mapping
from statistics import fmean
from typing import Any

from rfray.plan import Node, Plan
from rfray.stages.registry import stages

MULTIPLICATIONS_PER_CORE_SECOND = 6e9
"""Float32 multiply-accumulates of one CPU core per second. Measured on an AVX2 EPYC core with the
quickstart's networks: between 3e9 (ResNet50) and 10e9 (VGG)."""

MULTIPLICATIONS_PER_GPU_SECOND = 2e13
"""Multiply-accumulates of one GPU per second at 40 TFLOP/s: an estimate for recent GPUs with
bfloat16 convolutions. An H200 reached 66 to 79 TFLOP/s with large maps, and 9 to 11 with small
ones (docs/gpus.md)."""


def core_seconds(node: Node) -> float:
    """Estimated seconds of one CPU core."""
    return node.work / MULTIPLICATIONS_PER_CORE_SECOND


def weight_bytes(plan: Plan) -> float:
    """Estimated bytes of the weights of all runs of a plan."""
    return sum(
        stages()[node.stage].size(node.variant, node.cells[0]) for node in plan.nodes.values()
    )


def durations(
    plan: Plan, taken: Mapping[str, float], operations_per_second: Callable[[Node], float]
) -> Callable[[Node], float]:
    """A function for the seconds of each node of a plan, finished or not.

    For a finished node this is the time it took. For another node it is the mean of the finished
    nodes of its stage that differ in the seed only. If there are none, it is the node's operations
    at the pace of its stage's finished runs, else of all finished runs, else at
    `operations_per_second`.

    Args:
        plan: The plan.
        taken: Seconds that finished nodes took, by key.
        operations_per_second: Multiply-accumulates per second of a node, if nothing was measured.
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

    return seconds_of


def _kind(node: Node) -> Any:
    """What is equal for nodes that differ in the seed only."""
    params = {name: value for name, value in node.params.items() if name not in ("seed", "seeds")}
    return node.stage, tuple(sorted((name, str(value)) for name, value in params.items()))


def _pace(measured: Iterable[tuple[float, float]]) -> float | None:
    """Operations per second over runs of (operations, seconds); None without any."""
    pairs = list(measured)
    seconds = sum(second for _, second in pairs)
    work = sum(operations for operations, _ in pairs)
    return work / seconds if seconds > 0 and work > 0 else None
