"""A network stored as its changes from another one: which numbers are zero, how others changed.

The same rule holds for every tensor. One bit says whether a number is zero. For each other number,
its bits are read as an integer, and the difference from the other network's number is stored. So
a pruned network is little more than its mask, a fine-tuned one its remaining weights, and reading
gives exactly the same bits. Floating-point numbers of one sign have the same order as their bits:
small changes are small differences. Bytes are stored by significance, so zlib finds the zeros.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

State = Mapping[str, Tensor]
"""Parameters and buffers by name, on the CPU."""

Arrays = dict[str, NDArray[np.generic]]

_BASE = "base"


class OtherWeightsError(Exception):
    """Weights are not those that a file of changes refers to."""


def changes(state: State, base: State) -> Arrays:
    """The changes from `base` to `state`.

    All numbers of one size are stored together, one tensor after the other in the order of their
    names. For 32 bits, `zero32` says which are zero (one bit each, the highest of a byte first).
    `apart32`, (4, others), has the differences of the bits of the others from the base, the least
    significant bytes first, modulo 2³² and zigzag-encoded (0, -1, 1, -2, 2, … as 0, 1, 2, 3, 4, …);
    it is left out if no bit differs.

    Raises:
        OtherWeightsError: The two are not of the same network.
    """
    if _kinds(state) != _kinds(base):
        raise OtherWeightsError("a network's changes are from weights of the same network")
    arrays: Arrays = {}
    for size in sorted({tensor.element_size() for tensor in state.values()}):
        new, old = _numbers(state, size), _numbers(base, size)
        zero = new == 0
        apart = _zigzag((new - old)[~zero])
        arrays[f"zero{8 * size}"] = np.packbits(zero)
        if apart.any():
            arrays[f"apart{8 * size}"] = apart.view(np.uint8).reshape(-1, size).T.copy()
    return arrays


def changed(base: State, arrays: Mapping[str, NDArray[np.generic]]) -> dict[str, Tensor]:
    """The `state` that was given to `changes`: exactly the same bits."""
    state: dict[str, Tensor] = {}
    for size in sorted({tensor.element_size() for tensor in base.values()}):
        numbers = _numbers(base, size)
        zero = np.unpackbits(arrays[f"zero{8 * size}"].astype(np.uint8), count=len(numbers))
        numbers[zero == 1] = 0
        if f"apart{8 * size}" in arrays:
            apart = np.ascontiguousarray(arrays[f"apart{8 * size}"].astype(np.uint8).T)
            numbers[zero == 0] += _unzigzag(apart.reshape(-1).view(numbers.dtype))
        start = 0
        for name, tensor in _of_size(base, size):
            end = start + tensor.numel()
            bits = torch.from_numpy(numbers[start:end].view(np.uint8))
            state[name] = bits.view(tensor.dtype).reshape(tensor.shape)
            start = end
    return {name: state[name] for name in base}


def save_changes(path: Path, arrays: Arrays, base: str) -> None:
    """Write changes as a compressed npz, and `base`, the SHA-256 of the file that they refer to."""
    entries: dict[str, Any] = {_BASE: np.array(base), **arrays}
    np.savez_compressed(path, **entries)


def load_changes(path: Path, base: str) -> Arrays:
    """Read changes from the weights in a file whose SHA-256 is `base`.

    Raises:
        OtherWeightsError: They are changes from another file.
    """
    # No code in the file is run: pickles are refused.
    with np.load(path, allow_pickle=False) as file:
        arrays = dict(file)
    if str(arrays.pop(_BASE)) != base:
        raise OtherWeightsError(
            f"{path} has changes from other weights than those of the training run: one of the two "
            "was computed again or replaced; compute this run again with `rfray redo`"
        )
    return arrays


def _kinds(state: State) -> dict[str, tuple[torch.dtype, torch.Size]]:
    return {name: (tensor.dtype, tensor.shape) for name, tensor in state.items()}


def _of_size(state: State, size: int) -> list[tuple[str, Tensor]]:
    return [(name, state[name]) for name in sorted(state) if state[name].element_size() == size]


def _numbers(state: State, size: int) -> NDArray[np.unsignedinteger]:
    """The bits of all numbers of `size` bytes, as little-endian unsigned integers; a copy."""
    parts = [
        tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy()
        for _, tensor in _of_size(state, size)
    ]
    return np.concatenate(parts).view(f"<u{size}")


def _zigzag(distances: NDArray[Any]) -> NDArray[Any]:
    """Differences modulo 2ⁿ, encoded so that small negative ones are small numbers as well."""
    signed = distances.view(f"<i{distances.itemsize}")
    sign = signed >> (8 * distances.itemsize - 1)
    return ((signed << 1) ^ sign).view(distances.dtype)


def _unzigzag(numbers: NDArray[Any]) -> NDArray[Any]:
    """The differences that were given to `_zigzag`."""
    signed = numbers.view(f"<i{numbers.itemsize}")
    steps: NDArray[Any] = (numbers >> 1) ^ (-(signed & 1)).view(numbers.dtype)
    return steps
