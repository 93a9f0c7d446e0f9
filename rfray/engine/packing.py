"""How many training cells share a card, from what the first of each kind used. Pure."""

from __future__ import annotations

import math

from rfray.engine.job import CardUse
from rfray.plan import Node
from rfray.plan.keys import digest

MOST = 8
"""The most cells on one card. Each has its own process, copy of the data set, and CUDA context."""

MEMORY_FILLED = 0.9
"""The part of a card's memory that may be used: what allocators hold is not predictable."""

CONTEXT_BYTES = 5e8
"""Memory of a process's CUDA context, which no allocator counts. An assumption: not measured."""

_GRAIN = 10_000
"""Ray counts shares of a GPU in ten-thousandths."""


def cells_a_card(use: CardUse) -> int:
    """How many cells may share a card if each uses as much as one did.

    Limited by memory and by time: a card that is busy half of the time has room for a second cell;
    if it is busy 90 % of the time, two cells would only wait for each other. If the utilisation is
    not known, the card is not shared.

    Args:
        use: What a cell used that had the card for itself.
    """
    if use.utilisation is None:
        return 1
    by_memory = MEMORY_FILLED * use.total / (use.peak + CONTEXT_BYTES)
    by_time = 1 / use.utilisation if use.utilisation > 0 else math.inf
    return max(1, int(min(MOST, by_memory, by_time)))


def kind_of(node: Node) -> str:
    """A digest of everything except the seed: equal for cells that use the same of a card."""
    return digest([node.stage, node.parameters, node.cells[0].model_copy(update={"seed": 0})])


class Packing:
    """What is known about each kind of cell."""

    def __init__(self) -> None:
        self._cells: dict[str, int] = {}

    def knows(self, node: Node) -> bool:
        """Whether a cell of this kind has been measured."""
        return kind_of(node) in self._cells

    def share(self, node: Node) -> float:
        """The share of a card that a cell gets: a whole card until its kind is known."""
        cells = self._cells.get(kind_of(node), 1)
        return math.floor(_GRAIN / cells) / _GRAIN

    def learn(self, node: Node, use: CardUse) -> None:
        """Use the measurement of the first cell of a kind for all cells of that kind."""
        self._cells.setdefault(kind_of(node), cells_a_card(use))

    def halve(self, node: Node, share: float) -> None:
        """Put half as many cells of a kind on a card as fit with this share."""
        there = round(1 / share)
        kind = kind_of(node)
        self._cells[kind] = min(self._cells.get(kind, there), max(1, there // 2))
