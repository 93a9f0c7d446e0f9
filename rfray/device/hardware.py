"""The hardware of a run, as in its tag `rfray.hardware`, and the precision that follows from it.

The tag is `NVIDIA H100 80GB HBM3`, or `4 × NVIDIA H100 80GB HBM3` if four trained one network
together, or `x86_64 CPU, 2 threads`. `precision: auto` trains in bfloat16 on a GPU and in float32
on a CPU. Both have the same key, so that a study may move between machines. Wherever numbers of
both are compared, rfray must say so.
"""

import re
from collections.abc import Mapping
from typing import Literal

AUTO = "auto"

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


def on_device(precision: str, device: Literal["cpu", "cuda"]) -> str:
    """The precision that a setting gives on a device."""
    if precision != AUTO:
        return precision
    return "bfloat16" if device == "cuda" else "float32"


def recorded_precision(params: Mapping[str, str], hardware: str) -> str | None:
    """The precision of a run; None if it was not recorded.

    Args:
        params: The params of the run in MLflow.
        hardware: Its tag `rfray.hardware`; empty if it has none.
    """
    setting = params.get("precision")
    if setting is None or (setting == AUTO and not hardware):
        return None
    return on_device(setting, device_of(hardware))


def device_of(hardware: str) -> Literal["cpu", "cuda"]:
    """The kind of device that a tag `rfray.hardware` names.

    A worker writes `x86_64 CPU, 2 threads`, or the name of its GPU.
    """
    return "cpu" if " CPU, " in hardware else "cuda"
