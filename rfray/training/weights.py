"""Weights on disk: safetensors alone, so that reading a file never runs code from it."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from rfray.cell import Cell
from rfray.models.module import NetworkModule, build, build_any
from rfray.seeding import stream_seed

_Module = TypeVar("_Module", bound=nn.Module)


def initial_module(cell: Cell, device: str) -> nn.Module:
    """The cell's network as its seed initialises it, on `device`, channels last."""
    return _placed(build_any(cell.any_network, _seed(cell)), device)


def load_module(cell: Cell, path: Path, device: str) -> nn.Module:
    """The cell's network with the weights of a safetensors file; every tensor must match."""
    return _loaded(initial_module(cell, device), path, device)


def load_network(cell: Cell, path: Path, device: str) -> NetworkModule:
    """As `load_module`, of a network that was read: its layers can be asked for.

    Raises:
        UserError: It cannot be read.
    """
    return _loaded(_placed(build(cell.network, _seed(cell)), device), path, device)


def save_module(module: nn.Module, path: Path) -> None:
    """Write every parameter and buffer of `module`, under the layers' names."""
    # Dense rows: how the device lays channels out must not decide what the file holds.
    state = {
        name: tensor.detach().cpu().contiguous() for name, tensor in module.state_dict().items()
    }
    save_file(state, path)


def _seed(cell: Cell) -> int:
    return stream_seed(cell.seed, "init")


def _placed(module: _Module, device: str) -> _Module:
    return module.to(device=torch.device(device), memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def _loaded(module: _Module, path: Path, device: str) -> _Module:
    module.load_state_dict(load_file(path, device=device), strict=True)
    return module
