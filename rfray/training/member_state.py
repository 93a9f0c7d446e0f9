"""A network and its optimizer in a file, to be read by another process of the same machine."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from rfray.training.checkpoint import EpochRecord, load_checkpoint, save_checkpoint


def save_state(path: Path, module: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Replace the file at `path` by the state of both."""
    save_checkpoint(path, module, optimizer, [EpochRecord(epoch=0, metrics={})])


def load_state(path: Path, module: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Put both into the state of the file, on the devices where they are.

    Raises:
        RuntimeError: There is no such file, or it is damaged.
    """
    if not load_checkpoint(path, module, optimizer):
        raise RuntimeError(f"another process left no state in {path}")
