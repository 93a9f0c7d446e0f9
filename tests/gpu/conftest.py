"""Tests that need a GPU: they are not collected where PyTorch finds none.

    python -m pytest tests/gpu

What they hold is listed in docs/gpus.md, with the card that they last ran on.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))  # the helpers of the other tests

if not torch.cuda.is_available():
    collect_ignore_glob = ["test_*.py"]


@pytest.fixture(autouse=True)
def _float32_is_float32():
    """What is compared with a processor must not round to TensorFloat-32."""
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, cudnn.allow_tf32
    matmul.allow_tf32 = cudnn.allow_tf32 = False
    yield
    matmul.allow_tf32, cudnn.allow_tf32 = before


@pytest.fixture(autouse=True)
def _leaves_nothing_behind():
    yield
    from rfray.data.device import forget_residents

    forget_residents()
    torch.cuda.empty_cache()
