"""A card that is not there: memory as numbers, whoever else computes on it included."""

from __future__ import annotations

from dataclasses import dataclass, field

from rfray.device.card import CardMemory


@dataclass
class PretendedCard:
    """A card of 80 GB, of which others hold some.

    Attributes:
        share: What the stage was given of it.
        total: Bytes.
        others: What other processes hold.
        used: What this process's tensors take.
        cached: What its allocator holds besides.
        busy: How busy it was at each look; None where nobody can see.
    """

    share: float = 1.0
    total: float = 80e9
    others: float = 0.0
    used: float = 0.0
    cached: float = 0.0
    busy: list[float | None] = field(default_factory=lambda: [0.5])
    kind = "cuda"
    name = "Pretended 80GB"
    releases: int = 0

    def memory(self):
        held = self.used + self.cached
        return CardMemory(self.total, self.total - self.others - held, held, self.used)

    def peak(self):
        return self.used + self.cached

    def utilisation(self):
        return self.busy.pop(0) if len(self.busy) > 1 else self.busy[0]

    def release(self):
        self.cached = 0.0
        self.releases += 1
