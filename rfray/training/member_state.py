"""A network and its optimizer in a file, to be read by another process of the same machine."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from rfray.atomic import partial_path, replace_with


def save_state(path: Path, module: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Replace the file at `path` by the state of both."""
    partial = partial_path(path)
    torch.save({"module": module.state_dict(), "optimizer": optimizer.state_dict()}, partial)
    replace_with(partial, path)


def load_state(path: Path, module: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Put both into the state of the file, on the devices where they are."""
    state = torch.load(path, map_location="cpu", weights_only=True)
    module.load_state_dict(state["module"])
    optimizer.load_state_dict(state["optimizer"])
