"""What waiting nodes need to know of finished ones, and no longer than they wait. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from rfray.engine.assemble import Finished
from rfray.plan import Node, Plan


class Inputs:
    """The finished nodes that nodes without an end read.

    A sweep of a hundred thousand runs must not keep what each of them has measured.

    Args:
        plan: The study.
        finished: The nodes that are finished at the start, by key.
    """

    def __init__(self, plan: Plan, finished: Iterable[tuple[str, Finished]]) -> None:
        before = dict(finished)
        self._readers = Counter(
            read for key, node in plan.nodes.items() if key not in before for read in node.inputs
        )
        self._known = {key: one for key, one in before.items() if self._readers[key]}

    @property
    def known(self) -> Mapping[str, Finished]:
        """By key; all that a node without an end reads, as far as it is finished."""
        return self._known

    def finished(self, key: str, one: Finished) -> None:
        """A node is finished."""
        if self._readers[key]:
            self._known[key] = one

    def ended(self, node: Node) -> None:
        """A node has ended, well or not, or will not start: it reads no more."""
        for key in node.inputs:
            self._readers[key] -= 1
            if not self._readers[key]:
                self._known.pop(key, None)
