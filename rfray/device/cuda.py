"""An NVIDIA or AMD card through PyTorch."""

import gc

import torch

from rfray.device.card import CardMemory, Kind, NoCardError
from rfray.device.utilisation import utilisation_of


class CudaCard:
    """The card that this process sees.

    Args:
        share: The share of it that the stage was given, 0 to 1.

    Raises:
        NoCardError: PyTorch finds no card.
    """

    kind: Kind = "cuda"

    def __init__(self, share: float) -> None:
        if not torch.cuda.is_available():
            raise NoCardError(why_none(torch.version.cuda or torch.version.hip))
        self.share = share
        torch.cuda.reset_peak_memory_stats()

    @property
    def name(self) -> str:
        """From PyTorch."""
        return str(torch.cuda.get_device_name())

    def memory(self) -> CardMemory:
        """From the GPU's driver and PyTorch's allocator."""
        free, total = torch.cuda.mem_get_info()
        return CardMemory(total, free, torch.cuda.memory_reserved(), torch.cuda.memory_allocated())

    def peak(self) -> float:
        """From PyTorch's allocator; memory of CUDA itself is not included."""
        return float(torch.cuda.max_memory_reserved())

    def utilisation(self) -> float | None:
        """From NVML."""
        return utilisation_of(str(torch.cuda.get_device_properties().uuid))

    def release(self) -> None:
        """Collect tensors in reference cycles, then empty the allocator's cache.

        Source: https://pytorch.org/docs/stable/notes/cuda.html#cublas-workspaces
        """
        gc.collect()
        torch._C._cuda_clearCublasWorkspaces()
        torch.cuda.empty_cache()


def why_none(built_for: str | None) -> str:
    """Why PyTorch finds no card, and what to do, in a sentence."""
    if built_for is None:
        return (
            "this PyTorch is built for CPUs only: install the one for GPUs on every machine that "
            "has a GPU (https://pytorch.org/get-started)"
        )
    return (
        f"PyTorch is built for GPUs (CUDA or ROCm {built_for}) but finds none: nvidia-smi must "
        "show the GPU, and its driver must support that version"
    )
