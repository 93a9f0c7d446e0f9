"""A training run's last finished epoch on disk, from which an interrupted run continues."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

_MODEL = "model/"
_MOMENTUM = "momentum/"


@dataclass(frozen=True)
class EpochRecord:
    """The metrics of one finished epoch."""

    epoch: int
    metrics: dict[str, float]


def save_checkpoint(
    path: Path, module: nn.Module, optimizer: torch.optim.SGD, history: Sequence[EpochRecord]
) -> None:
    """Replace the checkpoint at `path` atomically: a reader finds the old one or the new one."""
    tensors: dict[str, Tensor] = {
        _MODEL + name: tensor.detach().cpu().contiguous()
        for name, tensor in module.state_dict().items()
    }
    for name, parameter in module.named_parameters():
        momentum = optimizer.state[parameter].get("momentum_buffer")
        if momentum is not None:
            tensors[_MOMENTUM + name] = momentum.detach().cpu().contiguous()
    temporary = path.with_suffix(".partial")
    history_text = json.dumps([asdict(record) for record in history])
    save_file(tensors, temporary, metadata={"history": history_text})
    os.replace(temporary, path)  # noqa: PTH105 (Path.replace is the same call; this one says atomic)


def load_checkpoint(path: Path, module: nn.Module, optimizer: torch.optim.SGD) -> list[EpochRecord]:
    """Put `module` and `optimizer` where the checkpoint left them; the epochs that it finished.

    An absent file means that nothing was finished: both stay as they are, and the list is empty.
    """
    if not path.is_file():
        return []
    with safe_open(path, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
        history = json.loads(file.metadata()["history"])
    module.load_state_dict(
        {name.removeprefix(_MODEL): t for name, t in tensors.items() if name.startswith(_MODEL)}
    )
    for name, parameter in module.named_parameters():
        momentum = tensors.get(_MOMENTUM + name)
        if momentum is not None:
            optimizer.state[parameter]["momentum_buffer"] = torch.empty_like(parameter).copy_(
                momentum
            )
    return [EpochRecord(**record) for record in history]
