"""How many training cells share a card, by what the first of each kind took of it. Pure."""

from __future__ import annotations

import math

from rfray.engine.job import CardUse
from rfray.plan import Node
from rfray.plan.keys import digest

MOST = 8
"""Cells on one card; each has an interpreter, a copy of the data set, and CUDA itself."""

MEMORY_FILLED = 0.9
"""The part of a card's memory that may be in use: what allocators hold is never quite foreseen."""

CONTEXT_BYTES = 5e8
"""What CUDA itself is taken to need for each process, which no allocator counts: a guess, since
nothing was measured on a card."""

_GRAIN = 10_000
"""Ray counts shares of a GPU in ten-thousandths."""


def cells_a_card(use: CardUse) -> int:
    """How many cells may share a card if each takes what one has taken.

    By memory, and by time: a card that is busy half of the time has room for a second cell, while
    one that is busy nine tenths of it would only make both wait. One that nobody could see at work
    is not shared.

    Args:
        use: Of a cell that had the card for itself.
    """
    if use.utilisation is None:
        return 1
    by_memory = MEMORY_FILLED * use.total / (use.peak + CONTEXT_BYTES)
    by_time = 1 / use.utilisation if use.utilisation > 0 else math.inf
    return max(1, int(min(MOST, by_memory, by_time)))


def kind_of(node: Node) -> str:
    """What cells that take equally much of a card have in common: everything but their seed."""
    return digest([node.stage, node.parameters, node.cells[0].model_copy(update={"seed": 0})])


class Packing:
    """What is known of each kind of cell by now."""

    def __init__(self) -> None:
        self._cells: dict[str, int] = {}

    def knows(self, node: Node) -> bool:
        """Whether a cell of this kind has been seen at work."""
        return kind_of(node) in self._cells

    def share(self, node: Node) -> float:
        """The share of a card that a cell is given: all of it before its kind is known."""
        cells = self._cells.get(kind_of(node), 1)
        return math.floor(_GRAIN / cells) / _GRAIN

    def learn(self, node: Node, use: CardUse) -> None:
        """Take what a cell of a kind not yet known took as what they all take."""
        self._cells.setdefault(kind_of(node), cells_a_card(use))

    def halve(self, node: Node, share: float) -> None:
        """Put half as many cells of a kind on a card as filled it with such a share each."""
        there = round(1 / share)
        kind = kind_of(node)
        self._cells[kind] = min(self._cells.get(kind, there), max(1, there // 2))
