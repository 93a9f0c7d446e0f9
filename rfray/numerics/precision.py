"""True float32: no TensorFloat-32, no autocast, no choice of algorithms by measured time."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def full_precision(device: torch.device) -> Iterator[None]:
    """A context that computes in the dtype of the tensors and deterministically.

    On recent GPUs PyTorch by default rounds float32 to TensorFloat-32 (10 bits of mantissa) in
    convolutions. The relative error of every product of a Lanczos iteration is then 1e-3, as large
    as the usual tolerance of eigenvalues.
    """
    matmul = torch.backends.cuda.matmul
    allowed = matmul.allow_tf32
    cudnn = torch.backends.cudnn.flags(
        enabled=torch.backends.cudnn.enabled, benchmark=False, deterministic=True, allow_tf32=False
    )
    matmul.allow_tf32 = False
    try:
        with cudnn, torch.autocast(device.type, enabled=False):
            yield
    finally:
        matmul.allow_tf32 = allowed
