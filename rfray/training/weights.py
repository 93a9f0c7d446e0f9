"""Weights on disk: safetensors alone, so that reading a file never runs code from it."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from rfray.cell import Cell
from rfray.models.module import NetworkModule, build
from rfray.seeding import stream_seed


def initial_module(cell: Cell, device: str) -> NetworkModule:
    """The cell's network as its seed initialises it, on `device`, channels last."""
    return _placed(build(cell.network, stream_seed(cell.seed, "init")), device)


def load_module(cell: Cell, path: Path, device: str) -> NetworkModule:
    """The cell's network with the weights of a safetensors file; every tensor must match."""
    module = initial_module(cell, device)
    module.load_state_dict(load_file(path, device=device), strict=True)
    return module


def save_module(module: nn.Module, path: Path) -> None:
    """Write every parameter and buffer of `module`, under the layers' names."""
    # Dense rows: how the device lays channels out must not decide what the file holds.
    state = {
        name: tensor.detach().cpu().contiguous() for name, tensor in module.state_dict().items()
    }
    save_file(state, path)


def _placed(module: NetworkModule, device: str) -> NetworkModule:
    return module.to(device=torch.device(device), memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]
