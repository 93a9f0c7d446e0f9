"""How long the rest of a sweep takes, judged by the runs that it has finished. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

from rfray.plan import Node


class Pace:
    """What the finished runs took, and what is left, stage by stage.

    The cost of a small run is not in its operations, so each stage is judged by its own runs; one
    that has none yet, by all of them and by how long its first ones run already.

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

    def seconds_left(self, elapsed: float, running: Sequence[tuple[Node, float]]) -> float | None:
        """Time left if as many slots stay in use as so far.

        Args:
            elapsed: Seconds since the sweep began.
            running: The nodes that run, and since how many seconds.

        Returns:
            Seconds; None where nothing has finished yet, or where all that runs has already taken
            longer than was to be expected.
        """
        finished = sum(self._seconds.values())
        if finished == 0 or elapsed == 0:
            return None
        pace = {stage: self._seconds_a_measure(stage, running) for stage in self._left}
        wanted = sum(left * pace[stage] for stage, left in self._left.items())
        if wanted == 0:
            return 0.0
        wanted -= sum(min(seconds, _measure(node) * pace[node.stage]) for node, seconds in running)
        slots_in_use = (finished + sum(seconds for _, seconds in running)) / elapsed
        return wanted / slots_in_use if wanted > 0 else None

    def _seconds_a_measure(self, stage: str, running: Sequence[tuple[Node, float]]) -> float:
        if self._done[stage]:
            return self._seconds[stage] / self._done[stage]
        overall = sum(self._seconds.values()) / sum(self._done.values())
        # A guess, which a run that has taken longer already shows to be too low.
        taken = [s / _measure(node) for node, s in running if node.stage == stage]
        return max([overall, *taken])


def _measure(node: Node) -> float:
    """Operations of a node, which within a stage its time goes with."""
    return max(node.work, 1.0)
