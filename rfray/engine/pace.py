"""How long the rest of a sweep takes, judged by the runs that it has finished. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from rfray.plan import Node


class Pace:
    """What the finished runs took, and what is left, stage by stage.

    The cost of a small run is not in its operations, so each stage is judged by its own runs; one
    that has none yet, by all of them.

    Args:
        left: The nodes that are not done.
    """

    def __init__(self, left: Iterable[Node]) -> None:
        self._left: defaultdict[str, float] = defaultdict(float)
        self._done: defaultdict[str, float] = defaultdict(float)
        self._seconds: defaultdict[str, float] = defaultdict(float)
        for node in left:
            self._left[node.stage] += _measure(node)

    def finished(self, node: Node, seconds: float) -> None:
        """Count a node that took so many seconds on its slot."""
        self.dropped(node)
        self._done[node.stage] += _measure(node)
        self._seconds[node.stage] += seconds

    def dropped(self, node: Node) -> None:
        """Count a node that failed or was skipped: it is left no more."""
        self._left[node.stage] -= _measure(node)

    def seconds_left(self, elapsed: float) -> float | None:
        """Time left if all goes on as in the `elapsed` seconds; None before anything finished."""
        busy = sum(self._seconds.values())
        if busy == 0 or elapsed == 0:
            return None
        overall = busy / sum(self._done.values())
        wanted = sum(
            left * (self._seconds[stage] / self._done[stage] if self._done[stage] else overall)
            for stage, left in self._left.items()
        )
        return wanted * elapsed / busy


def _measure(node: Node) -> float:
    """Operations of a node, which within a stage its time goes with."""
    return max(node.work, 1.0)
