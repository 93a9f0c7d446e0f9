"""The hardware of a run, as in its tag `rfray.hardware`; the speed of several cards together.

`NVIDIA H100 80GB HBM3`, or `4 × NVIDIA H100 80GB HBM3` if four trained one network together, or
`x86_64 CPU, 2 threads`.
"""

import re

FURTHER_CARD = 0.75
"""Speed that each card after the first adds to a training, in cards. An assumption: it was not
measured. Each card has a smaller part of the batch, gradients and batch norms wait for the slowest
card, and only one card evaluates."""


def named(processes: int, device: str) -> str:
    """The text for the tag: a number of processes, each on such a device."""
    return device if processes == 1 else f"{processes} × {device}"


def processes_of(hardware: str) -> int:
    """The number of processes that computed a run, from its tag; 1 if it has none."""
    several = re.match(r"(\d+) × ", hardware)
    return int(several[1]) if several else 1


def speedup(cards: float) -> float:
    """The speed of one training on several cards, in cards; for a share of a card, that share."""
    return cards if cards <= 1 else 1 + FURTHER_CARD * (cards - 1)
