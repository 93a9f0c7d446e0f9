"""In which precision a run was computed, from what the run records: `auto` leaves it to the device.

`precision: auto` trains in bfloat16 on a GPU and in float32 on a processor, under one and the same
key, so that a study may move between machines. Numbers of both must not count as equal unsaid.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

AUTO = "auto"


def on_device(precision: str, device: Literal["cpu", "cuda"]) -> str:
    """The precision that a setting stands for on a device."""
    if precision != AUTO:
        return precision
    return "bfloat16" if device == "cuda" else "float32"


def recorded_precision(params: Mapping[str, str], hardware: str) -> str | None:
    """The precision that a run was computed in; None where nothing records it.

    Args:
        params: The params of the run, as MLflow keeps them.
        hardware: Its tag `rfray.hardware`; empty if it has none.
    """
    setting = params.get("precision")
    if setting is None or (setting == AUTO and not hardware):
        return None
    return on_device(setting, device_of(hardware))


def device_of(hardware: str) -> Literal["cpu", "cuda"]:
    """The kind of device that a tag `rfray.hardware` names.

    A worker writes `x86_64 CPU, 2 threads`, or the name of its GPU (`rfray.hardware`).
    """
    return "cpu" if " CPU, " in hardware else "cuda"
