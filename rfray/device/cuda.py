"""An NVIDIA or AMD card through PyTorch."""

from __future__ import annotations

import gc

import torch

from rfray.device.card import CardMemory, Kind, NoCardError
from rfray.device.utilisation import utilisation_of


class CudaCard:
    """The card that this process may see.

    Args:
        share: The part of it that the stage was given, 0 to 1.

    Raises:
        NoCardError: PyTorch finds none.
    """

    kind: Kind = "cuda"

    def __init__(self, share: float) -> None:
        if not torch.cuda.is_available():
            raise NoCardError(why_none(torch.version.cuda or torch.version.hip))
        self.share = share
        torch.cuda.reset_peak_memory_stats()

    @property
    def name(self) -> str:
        """As PyTorch tells it."""
        return str(torch.cuda.get_device_name())

    def memory(self) -> CardMemory:
        """As the driver and PyTorch's allocator tell it."""
        free, total = torch.cuda.mem_get_info()
        return CardMemory(total, free, torch.cuda.memory_reserved(), torch.cuda.memory_allocated())

    def peak(self) -> float:
        """As PyTorch's allocator tells it; what CUDA itself takes is not in it."""
        return float(torch.cuda.max_memory_reserved())

    def utilisation(self) -> float | None:
        """As NVML tells it."""
        return utilisation_of(str(torch.cuda.get_device_properties().uuid))

    def release(self) -> None:
        """Collect what only a cycle of references still holds, then empty the allocator's cache.

        Source: https://pytorch.org/docs/stable/notes/cuda.html#cublas-workspaces
        """
        gc.collect()
        torch._C._cuda_clearCublasWorkspaces()
        torch.cuda.empty_cache()


def why_none(built_for: str | None) -> str:
    """Why PyTorch finds no card, in a sentence that says what to do."""
    if built_for is None:
        return (
            "this PyTorch is built for processors alone: install the one for GPUs on every "
            "machine that has some (https://pytorch.org/get-started)"
        )
    return (
        f"PyTorch is built for GPUs (CUDA or ROCm {built_for}) and finds none: nvidia-smi must "
        "show it, and the driver must be as new as that"
    )
