"""The precision of a run, from what the run records.

`precision: auto` trains in bfloat16 on a GPU and in float32 on a CPU. Both have the same key, so
that a study may move between machines. Wherever numbers of both are compared, rfray must say so.
"""

from collections.abc import Mapping
from typing import Literal

AUTO = "auto"


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
