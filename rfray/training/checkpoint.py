"""A training run's last finished epoch on disk, from which an interrupted run continues.

The file names its own digest, which covers the folder's name as well: the folder is called by the
content key of what is trained in it, so a checkpoint of anything else in its place is refused too.
"""

from __future__ import annotations

import hashlib
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

_MODEL = "model/"
_STATE = {
    "momentum_buffer": "momentum/",
    "step": "step/",
    "exp_avg": "first_moment/",
    "exp_avg_sq": "second_moment/",
}
"""Where the file keeps what the optimizers of `optimization` remember of each parameter."""

_COUNTED = "step"
_REFUSED = ".refused"

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class EpochRecord:
    """The metrics of one finished epoch."""

    epoch: int
    metrics: dict[str, float]


def is_due(epoch: int, every: int, epochs: int) -> bool:
    """Whether a checkpoint belongs behind an epoch: each so many, and the last of `epochs`."""
    return epoch % every == 0 or epoch == epochs


def save_checkpoint(
    path: Path, module: nn.Module, optimizer: torch.optim.Optimizer, history: Sequence[EpochRecord]
) -> None:
    """Replace the checkpoint at `path` atomically: a reader finds the old one or the new one."""
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
    """Put `module` and `optimizer` where the checkpoint left them; the epochs that it finished.

    An absent file means that nothing was finished: both stay as they are, and the list is empty.
    So it is with a file that is damaged or belongs to other work, which is set aside under the name
    `….refused`: training from the beginning gives the same numbers.
    """
    if not path.is_file():
        return []
    try:
        tensors, history_text = _read(path)
    except (SafetensorError, _RefusedError) as error:
        _log.warning("%s is refused, training starts anew: %s", path, error)
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


def _as_remembered(key: str, kept: Tensor, parameter: Tensor) -> Tensor:
    """A tensor of a checkpoint as the optimizer holds it: laid out as the parameter is.

    The number of steps is one number, which stays on the CPU.
    """
    return kept.clone() if key == _COUNTED else torch.empty_like(parameter).copy_(kept)


class _RefusedError(Exception):
    """A readable file that is not the checkpoint that was written here."""


def _read(path: Path) -> tuple[dict[str, Tensor], str]:
    with safe_open(path, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
        metadata = file.metadata() or {}
    history_text = metadata.get("history", "")
    if metadata.get("digest") != _digest(path, tensors, history_text):
        raise _RefusedError("its digest does not fit its contents and its place")
    return tensors, history_text


def _digest(path: Path, tensors: Mapping[str, Tensor], history_text: str) -> str:
    """SHA-256 (hexadecimal) of the folder's name, the history and every tensor."""
    digest = hashlib.sha256(f"{path.parent.name}\n{history_text}\n".encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
