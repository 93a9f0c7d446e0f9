"""PyTorch's deterministic algorithms, for as long as one stage wants them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

import torch

from rfray.training.protocol import TrainingProtocol

_WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"


def arithmetic_of(protocol: TrainingProtocol) -> AbstractContextManager[None]:
    """The context in which a protocol is to be computed."""
    return deterministic_algorithms() if protocol.deterministic else timed_algorithms()


@contextmanager
def timed_algorithms() -> Iterator[None]:
    """Inside, cuDNN tries its algorithms for each new shape and keeps the fastest.

    Which one that is a stopwatch decides, so two runs may round differently. A processor has no
    such choice.
    """
    benchmark = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = True
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = benchmark


@contextmanager
def deterministic_algorithms() -> Iterator[None]:
    """Inside, PyTorch computes with deterministic algorithms alone, or fails where it has none.

    Outside all is as it was: a worker's process goes on to other stages. cuBLAS reads the size of
    its workspace when a process first computes with it; the variable is set for PyTorch too, which
    refuses to multiply matrices without it.

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
