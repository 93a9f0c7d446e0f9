"""What a run was computed on, as its tag `rfray.hardware` says it; what several cards are worth.

`NVIDIA H100 80GB HBM3`, `4 × NVIDIA H100 80GB HBM3` where four trained one network together, or
`x86_64 CPU, 2 threads`.
"""

from __future__ import annotations

import re

FURTHER_CARD = 0.75
"""What each card beyond the first adds to the speed of a training, in cards. Assumed: nothing was
measured. Each has a smaller part of the batch, gradients and batch norms wait for the slowest, and
one card alone evaluates."""


def named(processes: int, device: str) -> str:
    """What so many processes computed on, each on such a device."""
    return device if processes == 1 else f"{processes} × {device}"


def processes_of(hardware: str) -> int:
    """How many processes computed a run, by its tag; 1 where it has none."""
    several = re.match(r"(\d+) × ", hardware)
    return int(several[1]) if several else 1


def speedup(cards: float) -> float:
    """How many times as fast as one card so many are for one training; a share is that share."""
    return cards if cards <= 1 else 1 + FURTHER_CARD * (cards - 1)
