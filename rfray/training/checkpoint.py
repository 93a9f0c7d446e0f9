"""A training run's last finished epoch on disk, from which an interrupted run continues.

The file has its own digest, which includes the folder's name. That name is the key of the training
in it, so a checkpoint of another training is refused.
"""

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from rfray.files.atomic import partial_path, replace_with
from rfray.training.weights import state_digest

_MODEL = "model/"
_STATE = {
    "momentum_buffer": "momentum/",
    "step": "step/",
    "exp_avg": "first_moment/",
    "exp_avg_sq": "second_moment/",
}
"""Prefixes in the file for the state of the optimizers of `optimization` for each parameter."""

_COUNTED = "step"
_REFUSED = ".refused"

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class EpochRecord:
    """The metrics of one finished epoch."""

    epoch: int
    metrics: dict[str, float]


def is_due(epoch: int, every: int, epochs: int) -> bool:
    """Whether a checkpoint is due after an epoch: every `every` epochs, and after the last one."""
    return epoch % every == 0 or epoch == epochs


def save_checkpoint(
    path: Path, module: nn.Module, optimizer: torch.optim.Optimizer, history: Sequence[EpochRecord]
) -> None:
    """Replace the checkpoint at `path` atomically: a reader sees the old one or the new one."""
    tensors: dict[str, Tensor] = {
        _MODEL + name: tensor.detach().cpu().contiguous()
        for name, tensor in module.state_dict().items()
    }
    for name, parameter in module.named_parameters():
        for key, value in optimizer.state.get(parameter, {}).items():
            tensors[_STATE[key] + name] = value.detach().cpu().contiguous()
    history_text = json.dumps([asdict(record) for record in history])
    metadata = {"history": history_text, "digest": _digest(path, tensors, history_text)}
    for stale in path.parent.glob(f".{path.name}.*"):
        stale.unlink(missing_ok=True)
    partial = partial_path(path)
    save_file(tensors, partial, metadata=metadata)
    replace_with(partial, path)


def load_checkpoint(
    path: Path, module: nn.Module, optimizer: torch.optim.Optimizer
) -> list[EpochRecord]:
    """Load the state of a checkpoint into `module` and `optimizer`; returns its finished epochs.

    If there is no file, nothing was finished: both do not change, and the list is empty. The same
    holds for a file that is damaged or of another training; it is renamed to `….refused`. Training
    from the beginning gives the same numbers.
    """
    if not path.is_file():
        return []
    try:
        tensors, history_text = _read(path)
    except (SafetensorError, _RefusedError) as error:
        _log.warning("%s is refused, training starts from the beginning: %s", path, error)
        path.replace(path.with_name(path.name + _REFUSED))
        return []
    history = json.loads(history_text)
    module.load_state_dict(
        {name.removeprefix(_MODEL): t for name, t in tensors.items() if name.startswith(_MODEL)}
    )
    for name, parameter in module.named_parameters():
        for key, place in _STATE.items():
            kept = tensors.get(place + name)
            if kept is not None:
                optimizer.state[parameter][key] = _as_remembered(key, kept, parameter)
    return [EpochRecord(**record) for record in history]


def save_state(path: Path, module: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Replace the file at `path` with the state of both, for another process of this machine."""
    save_checkpoint(path, module, optimizer, [EpochRecord(epoch=0, metrics={})])


def load_state(path: Path, module: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Load the state of the file into both, on their devices.

    Raises:
        RuntimeError: There is no such file, or it is damaged.
    """
    if not load_checkpoint(path, module, optimizer):
        raise RuntimeError(f"another process wrote no state to {path}")


def _as_remembered(key: str, kept: Tensor, parameter: Tensor) -> Tensor:
    """A tensor of a checkpoint as the optimizer stores it, with the layout of the parameter.

    The number of steps stays on the CPU.
    """
    return kept.clone() if key == _COUNTED else torch.empty_like(parameter).copy_(kept)


class _RefusedError(Exception):
    """A readable file that is not the checkpoint written in this folder."""


def _read(path: Path) -> tuple[dict[str, Tensor], str]:
    with safe_open(path, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
        metadata = file.metadata() or {}
    history_text = metadata.get("history", "")
    if metadata.get("digest") != _digest(path, tensors, history_text):
        raise _RefusedError("its digest does not match its contents and its folder")
    return tensors, history_text


def _digest(path: Path, tensors: Mapping[str, Tensor], history_text: str) -> str:
    """SHA-256 (hexadecimal) of the folder's name, the history and every tensor."""
    return state_digest(tensors, f"{path.parent.name}\n{history_text}\n")
