"""How long the rest of a sweep takes, estimated from its finished runs. Pure."""

from collections import defaultdict
from collections.abc import Iterable, Sequence

from rfray.plan import Node


class Pace:
    """The time of the finished runs, and the work that is left, by stage.

    The time of a small run does not depend on its operations only. So each stage is estimated from
    its own runs. A stage without finished runs is estimated from the runs of all stages, and from
    how long its own running nodes have taken so far.

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
        """Count a finished node, which took these seconds."""
        self.dropped(node)
        self._done[node.stage] += _measure(node)
        self._seconds[node.stage] += seconds

    def dropped(self, node: Node) -> None:
        """Count a node that failed or was skipped: it is not left any more."""
        self._left[node.stage] -= _measure(node)

    def seconds_left(self, elapsed: float, running: Sequence[tuple[Node, float]]) -> float | None:
        """Time left if the same number of slots stays in use.

        Args:
            elapsed: Seconds since the sweep began.
            running: The running nodes, with their seconds so far.

        Returns:
            Seconds; None if nothing has finished yet, or if all running nodes have already taken
            longer than estimated.
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
        # An estimate; if a running node has taken longer already, it is too low.
        taken = [s / _measure(node) for node, s in running if node.stage == stage]
        return max([overall, *taken])


def _measure(node: Node) -> float:
    """Operations of a node; within a stage the time is about proportional to them."""
    return max(node.work, 1.0)
