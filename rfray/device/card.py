"""The device of a stage as an interface: its memory, and how to give memory back.

A card is a GPU. Code that depends on it uses this interface, so it can be tested without a GPU.
"""

import math
from dataclasses import dataclass
from typing import Literal, Protocol

Kind = Literal["cpu", "cuda"]


class NoCardError(Exception):
    """A stage was given a GPU, but PyTorch finds none."""


@dataclass(frozen=True)
class CardMemory:
    """Memory of a card, in bytes.

    Attributes:
        total: Memory of the card.
        free: Memory that no process holds.
        held: Memory that this process holds for tensors, cached blocks included.
        used: The part of `held` that its tensors use.
    """

    total: float
    free: float
    held: float
    used: float


class Card(Protocol):
    """The device of a stage."""

    @property
    def kind(self) -> Kind:
        """PyTorch's name of the kind of device."""
        ...

    @property
    def name(self) -> str:
        """Its product name; empty for a CPU."""
        ...

    @property
    def share(self) -> float:
        """The share of it that the stage was given, 0 to 1."""
        ...

    def memory(self) -> CardMemory:
        """Its memory now."""
        ...

    def peak(self) -> float:
        """The most bytes that this process has held on it since the stage began."""
        ...

    def utilisation(self) -> float | None:
        """The part of the last second in which it computed, 0 to 1; None if not known."""
        ...

    def release(self) -> None:
        """Give back memory that no tensor uses. The process continues with the next stage."""
        ...


class Processor:
    """The CPU. Its memory is not limited here: the stage's own settings limit what it uses."""

    kind: Kind = "cpu"
    name = ""
    share = 1.0

    def memory(self) -> CardMemory:
        """No limit."""
        return CardMemory(math.inf, math.inf, 0, 0)

    def peak(self) -> float:
        """Not measured."""
        return 0.0

    def utilisation(self) -> float | None:
        """Not measured."""
        return None

    def release(self) -> None:
        """Nothing to do: the operating system manages the memory."""


PROCESSOR = Processor()


def room(card: Card) -> float:
    """Bytes that a stage may still use: the rest of its share, or less if less is free."""
    memory = card.memory()
    unused_blocks = memory.held - memory.used
    return max(0.0, min(card.share * memory.total - memory.used, memory.free + unused_blocks))
