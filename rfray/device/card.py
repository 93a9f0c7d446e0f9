"""A card as a stage sees it: how much memory is left to it, and how to give memory back.

Whatever is decided about a card asks this interface, so that it can be tried without one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, Protocol

Kind = Literal["cpu", "cuda"]


class NoCardError(Exception):
    """A stage was given a GPU, and PyTorch finds none here."""


@dataclass(frozen=True)
class CardMemory:
    """Memory of a card, bytes.

    Attributes:
        total: What the card has.
        free: What no process holds.
        held: What this process holds for tensors, cached blocks included.
        used: What its tensors take of that.
    """

    total: float
    free: float
    held: float
    used: float


class Card(Protocol):
    """What a stage computes on."""

    @property
    def kind(self) -> Kind:
        """The device as PyTorch names it."""
        ...

    @property
    def name(self) -> str:
        """As its maker names it; empty for a processor."""
        ...

    @property
    def share(self) -> float:
        """The part of it that the stage was given, 0 to 1."""
        ...

    def memory(self) -> CardMemory:
        """Its memory just now."""
        ...

    def peak(self) -> float:
        """The most bytes that this process has held on it since the stage began."""
        ...

    def utilisation(self) -> float | None:
        """The part of the last moment in which it computed, 0 to 1; None if nobody knows."""
        ...

    def release(self) -> None:
        """Give back what no tensor needs: the process stays, for the next stage."""
        ...


class Processor:
    """The processor: it has but one memory, which the stage's own settings bound."""

    kind: Kind = "cpu"
    name = ""
    share = 1.0

    def memory(self) -> CardMemory:
        """No bound of its own."""
        return CardMemory(math.inf, math.inf, 0, 0)

    def peak(self) -> float:
        """Nobody counts."""
        return 0.0

    def utilisation(self) -> float | None:
        """Nobody asks."""
        return None

    def release(self) -> None:
        """The operating system does that."""


PROCESSOR = Processor()


def room(card: Card) -> float:
    """Bytes that a stage may still take: what its share leaves, where as much is there at all."""
    memory = card.memory()
    unused_blocks = memory.held - memory.used
    return max(0.0, min(card.share * memory.total - memory.used, memory.free + unused_blocks))
