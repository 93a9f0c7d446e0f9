"""PyTorch's deterministic algorithms, for one stage."""

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

import torch

from rfray.training.protocol import TrainingProtocol

_WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"


def arithmetic_of(protocol: TrainingProtocol) -> AbstractContextManager[None]:
    """The context in which a protocol is computed."""
    return deterministic_algorithms() if protocol.deterministic else timed_algorithms()


@contextmanager
def timed_algorithms() -> Iterator[None]:
    """A context in which cuDNN tries its algorithms for each new shape and uses the fastest.

    Measured times decide, so two runs may round differently. On a CPU it has no effect.
    """
    benchmark = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = True
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = benchmark


@contextmanager
def deterministic_algorithms() -> Iterator[None]:
    """A context in which PyTorch uses deterministic algorithms only; it fails if there is none.

    Afterwards all settings are as before, because a worker's process computes other stages. cuBLAS
    reads the size of its workspace when a process first uses it. PyTorch needs the variable as
    well, and otherwise refuses to multiply matrices.

    Source: https://pytorch.org/docs/stable/notes/randomness.html
    """
    wanted = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    benchmark = torch.backends.cudnn.benchmark
    workspace = os.environ.get(_WORKSPACE)
    try:
        os.environ[_WORKSPACE] = ":4096:8"
        torch.backends.cudnn.benchmark = False
        torch.use_deterministic_algorithms(True)
        yield
    finally:
        torch.use_deterministic_algorithms(wanted, warn_only=warn_only)
        torch.backends.cudnn.benchmark = benchmark
        if workspace is None:
            os.environ.pop(_WORKSPACE, None)
        else:
            os.environ[_WORKSPACE] = workspace
