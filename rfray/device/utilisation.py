"""How busy a card is, from NVIDIA's management library (NVML)."""

from functools import cache
from typing import Any


def utilisation_of(uuid: str) -> float | None:
    """The part of the time in which a card computed, 0 to 1.

    For all processes together, over the last sixth of a second to one second.

    Args:
        uuid: UUID of the card, from PyTorch. (CUDA_VISIBLE_DEVICES changes PyTorch's indices.)

    Returns:
        The part; None if NVML is not installed (`pip install 'rfray[gpu]'`) or does not answer.
    """
    nvml = _library()
    if nvml is None:
        return None
    try:
        card = nvml.nvmlDeviceGetHandleByUUID(f"GPU-{uuid.removeprefix('GPU-')}")
        return float(nvml.nvmlDeviceGetUtilizationRates(card).gpu) / 100
    except nvml.NVMLError:
        return None


@cache
def _library() -> Any | None:
    try:
        import pynvml
    except ImportError:
        return None
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return None
    return pynvml
