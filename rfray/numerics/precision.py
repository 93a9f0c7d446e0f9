"""Float32 that is float32: no TensorFloat-32, no autocast, no algorithm chosen by a stopwatch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def full_precision(device: torch.device) -> Iterator[None]:
    """Computes in the dtype of the tensors and deterministically, and restores the settings after.

    On recent GPUs PyTorch lets convolutions round float32 to TensorFloat-32 (10 bits of mantissa)
    by default. A Lanczos iteration in that precision has a relative error of 1e-3 in every product,
    as large as the tolerance that eigenvalues are asked for.

    Args:
        device: The device that computes.
    """
    matmul = torch.backends.cuda.matmul
    allowed = matmul.allow_tf32
    cudnn = torch.backends.cudnn.flags(
        enabled=torch.backends.cudnn.enabled,
        benchmark=False,
        deterministic=True,
        allow_tf32=False,
    )
    matmul.allow_tf32 = False
    try:
        with cudnn, torch.autocast(device.type, enabled=False):
            yield
    finally:
        matmul.allow_tf32 = allowed
