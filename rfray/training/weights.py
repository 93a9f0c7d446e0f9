"""Weights on disk: safetensors and npz, so that reading a file never runs code from it.

All weights of a training run are stored. What can be computed from them exactly is not: the initial
weights are drawn again from the seed, and a pruned or fine-tuned network is stored as changes.
Older stores with complete copies can still be read.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from rfray.cell import Cell
from rfray.files.artifacts import file_digest
from rfray.models.module import NetworkModule, build, build_any
from rfray.seeding import stream_seed
from rfray.training.changes import OtherWeightsError, changed, changes, load_changes, save_changes
from rfray.training.weight_files import CHANGES, INITIAL, INITIAL_NOTE, MODEL

_Module = TypeVar("_Module", bound=nn.Module)


def initial_module(cell: Cell, device: str) -> nn.Module:
    """The cell's network as initialised with its seed, on `device`, channels last."""
    return _placed(_drawn(cell), device)


def load_module(cell: Cell, path: Path, device: str) -> nn.Module:
    """The cell's network with the weights of a safetensors file; every tensor must match."""
    return module_with(cell, load_file(path), device)


def module_with(cell: Cell, state: Mapping[str, Tensor], device: str) -> nn.Module:
    """The cell's network with weights by name; every tensor must match."""
    module = _drawn(cell)
    module.load_state_dict(state, strict=True)
    return _placed(module, device)


def load_whole(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file by name, on the CPU."""
    return load_file(path)


def save_module(module: nn.Module, path: Path) -> None:
    """Write every parameter and buffer of `module`, under the layers' names."""
    save_file(_state(module), path)


def save_changed(module: nn.Module, trained: Path, folder: Path) -> None:
    """Write the changes of `module` to `folder`, from a training run's artifacts in `trained`."""
    base = trained / MODEL
    arrays = changes(_state(module), load_file(base))
    save_changes(folder / CHANGES, arrays, file_digest(base))


def changed_state(folder: Path, trained: Path) -> dict[str, Tensor]:
    """The weights that `save_changed` wrote to `folder`, or that an older rfray wrote there.

    Raises:
        OtherWeightsError: `trained` does not have the weights that the changes refer to.
        FileNotFoundError: A file is missing.
    """
    if (folder / MODEL).is_file():
        return load_file(folder / MODEL)
    base = trained / MODEL
    return changed(load_file(base), load_changes(folder / CHANGES, file_digest(base)))


def load_changed(cell: Cell, folder: Path, trained: Path, device: str) -> nn.Module:
    """The cell's network with the weights of `changed_state`; raises the same errors."""
    return module_with(cell, changed_state(folder, trained), device)


def save_initial(module: nn.Module, cell: Cell, folder: Path) -> None:
    """Write the digest of the initial weights to `folder`, and the weights only if necessary.

    They depend on the seed only, unless the code of a plugin's network uses other random numbers.
    To find out, they are drawn a second time.
    """
    state = _state(module)
    digest = state_digest(state)
    if state_digest(_state(_drawn(cell))) != digest:
        save_file(state, folder / INITIAL)
        return
    note = {"cell": cell.model_dump(mode="json"), "sha256": digest, "torch": torch.__version__}
    (folder / INITIAL_NOTE).write_text(json.dumps(note, indent=1), encoding="utf-8")


def noted_cell(folder: Path) -> Cell:
    """The cell in the note on initial weights in `folder`; FileNotFoundError if there is none."""
    return Cell.model_validate(_note(folder)["cell"])


def initial_state(cell: Cell, folder: Path) -> dict[str, Tensor]:
    """The initial weights of a cell's training run, from its artifacts in `folder`.

    Raises:
        OtherWeightsError: They cannot be drawn again here: another version of PyTorch or another
            kind of CPU draws other numbers.
        FileNotFoundError: `folder` has neither the weights nor a note.
    """
    if (folder / INITIAL).is_file():
        return load_file(folder / INITIAL)
    note = _note(folder)
    state = _state(_drawn(cell))
    if state_digest(state) != note["sha256"]:
        raise OtherWeightsError(
            f"the initial weights drawn here, with PyTorch {torch.__version__}, are not those of "
            f"the training in {folder}, drawn with PyTorch {note['torch']}: use that version, on a "
            "CPU of the same kind"
        )
    return state


def state_at(cell: Cell, folder: Path, at: str) -> dict[str, Tensor]:
    """The weights of a cell before training ("init") or after it ("trained"), on the CPU.

    Args:
        cell: The cell.
        folder: Artifacts of its training run.
        at: Which weights.

    Raises:
        OtherWeightsError: See `initial_state`.
        FileNotFoundError: A file is missing.
    """
    return initial_state(cell, folder) if at == "init" else load_file(folder / MODEL)


def load_at(cell: Cell, folder: Path, at: str, device: str) -> nn.Module:
    """The cell's network with the weights of `state_at` on `device`; raises the same errors."""
    return module_with(cell, state_at(cell, folder, at), device)


def load_network_at(cell: Cell, folder: Path, at: str, device: str) -> NetworkModule:
    """As `load_at`, for a network that was read, so that its layers are known.

    Raises:
        UserError: It cannot be read.
    """
    module = build(cell.network, _seed(cell))
    module.load_state_dict(state_at(cell, folder, at), strict=True)
    return _placed(module, device)


def state_digest(state: Mapping[str, Tensor], before: str = "") -> str:
    """SHA-256 (hexadecimal) of the text `before` and of tensors on the CPU.

    Of their names, types, shapes and bits.
    """
    digest = hashlib.sha256(before.encode())
    for name in sorted(state):
        tensor = state[name]
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _note(folder: Path) -> dict[str, Any]:
    note: dict[str, Any] = json.loads((folder / INITIAL_NOTE).read_text(encoding="utf-8"))
    return note


def _drawn(cell: Cell) -> nn.Module:
    return build_any(cell.any_network, _seed(cell))


def _state(module: nn.Module) -> dict[str, Tensor]:
    # Contiguous: the file must not depend on the memory layout on the device.
    return {
        name: tensor.detach().cpu().contiguous() for name, tensor in module.state_dict().items()
    }


def _seed(cell: Cell) -> int:
    return stream_seed(cell.seed, "init")


def _placed(module: _Module, device: str) -> _Module:
    return module.to(device=torch.device(device), memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]
