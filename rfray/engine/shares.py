"""The share of a card for each node, and a larger one if its memory was not enough. Pure.

The share is chosen when the node gets its slot. It depends on what is known about cells of its kind
by then, and on earlier attempts of the node.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

from rfray.engine.job import CardUse
from rfray.engine.places import Occupancy
from rfray.plan import Node, Plan
from rfray.plan.keys import digest
from rfray.stages.registry import stages
from rfray.study import AUTO

WHOLE = 1.0

MOST = 8
"""The most cells on one card. Each has its own process, copy of the data set, and CUDA context."""

MEMORY_FILLED = 0.9
"""The part of a card's memory that may be used: what allocators hold is not predictable."""

CONTEXT_BYTES = 5e8
"""Memory of a process's CUDA context, which no allocator counts. An assumption: not measured."""

_GRAIN = 10_000
"""Ray counts shares of a GPU in ten-thousandths."""


@dataclass(frozen=True)
class Grant:
    """What a node is started with.

    Attributes:
        halvings: How often its micro-batch is halved.
        metered: Whether to measure what it uses of its card.
        remarks: Sentences about this for the reader of its result.
    """

    occupancy: Occupancy
    halvings: int = 0
    metered: bool = False
    remarks: tuple[str, ...] = ()


class Shares:
    """The shares of a plan's nodes.

    Args:
        usual: What a node occupies if nothing else is known.
    """

    def __init__(self, plan: Plan, usual: Callable[[Node], Occupancy]) -> None:
        self._usual = usual
        study = plan.study
        self._packed = {s for s in study.stage_parameters() if study.request(s).gpus == AUTO}
        self._cells_a_card: dict[str, int] = {}  # by kind, as far as it is known
        self._again: dict[str, Grant] = {}

    def demand(self, node: Node) -> Occupancy:
        """What a node would occupy if it started now."""
        return self.grant(node).occupancy

    def grant(self, node: Node) -> Grant:
        """What a node would be started with now; a whole card until its kind is known."""
        if node.key in self._again:
            return self._again[node.key]
        usual = self._usual(node)
        if not self._is_packed(node, usual):
            return Grant(usual)
        kind = kind_of(node)
        share = _share(self._cells_a_card.get(kind, 1))
        return Grant(replace(usual, gpus=share), metered=kind not in self._cells_a_card)

    def measured(self, node: Node, use: CardUse) -> None:
        """Learn from what the first node of a kind uses of its card, for all nodes of that kind."""
        if node.stage in self._packed:
            self._cells_a_card.setdefault(kind_of(node), cells_a_card(use))

    def try_again(self, node: Node, had: Grant) -> bool:
        """Give a node more memory of a card after its memory was used up; False if not possible.

        First it gets a whole card, which changes no number. Then it computes fewer images at a
        time, if the stage says that this changes only rounding.
        """
        more = self._more(node, had)
        if more is not None:
            self._again[node.key] = more
        return more is not None

    def _more(self, node: Node, had: Grant) -> Grant | None:
        share = had.occupancy.gpus
        if share == 0:
            return None
        if share < WHOLE:
            wider = WHOLE
            if self._is_packed(node, self._usual(node)):
                wider = self._halved(node, share)
            return replace(
                had,
                occupancy=replace(had.occupancy, gpus=wider),
                remarks=(*had.remarks, _widened(share, wider)),
            )
        name = stages()[node.stage].micro_batch
        images = int(getattr(node.parameters, name)) if name else 0
        fewer = images >> (had.halvings + 1)
        if fewer == 0:
            return None
        return replace(
            had, halvings=had.halvings + 1, remarks=(*had.remarks, _fewer(fewer, images))
        )

    def _is_packed(self, node: Node, usual: Occupancy) -> bool:
        return node.stage in self._packed and usual.gpus > 0

    def _halved(self, node: Node, share: float) -> float:
        """The share if half as many cells of a kind are on a card as fit with `share`."""
        there, kind = round(1 / share), kind_of(node)
        cells = min(self._cells_a_card.get(kind, there), max(1, there // 2))
        self._cells_a_card[kind] = cells
        return _share(cells)


def _widened(before: float, after: float) -> str:
    what = "a whole GPU" if after == WHOLE else f"{after:.3g} of one"
    return f"The GPU's memory was used up on a share of {before:.3g}: computed on {what} instead."


def _fewer(images: int, planned: int) -> str:
    return (
        f"The GPU's memory was used up: computed {images} images at a time instead of {planned}, "
        "which changes only rounding."
    )


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


def _share(cells: int) -> float:
    """The share of each of so many cells on a card."""
    return math.floor(_GRAIN / cells) / _GRAIN
