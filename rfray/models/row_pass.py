"""A forward pass in eval mode that computes the rows of all maps in the order of a schedule."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rfray.models.module import NetworkModule
from rfray.models.network import INPUT, Network
from rfray.models.operations import (
    Add,
    BatchNorm,
    Convolution,
    GlobalAveragePool,
    MaxPool,
    Relu,
    along,
)
from rfray.models.parts import WidePaddedMaxPool, padded_for_pool
from rfray.models.row_schedule import RowStep, row_steps
from rfray.numerics.live_taps import live_convolution

See = Callable[[str, Tensor, Tensor], None]
"""Takes a layer's name, the rows of its first input that it has read, and those of its own map."""


class _Rows:
    """The consecutive rows of one map that some layer still has to read, as they were written."""

    def __init__(self) -> None:
        self._start = 0
        self._pieces: list[Tensor] = []

    def append(self, piece: Tensor) -> None:
        self._pieces.append(piece)

    def read(self, start: int, stop: int) -> Tensor:
        """Rows `start` to `stop`; a view where one piece holds exactly these."""
        found, at = [], self._start
        for piece in self._pieces:
            rows = _height(piece)
            low, high = max(start - at, 0), min(stop - at, rows)
            if low < high:
                found.append(piece if high - low == rows else piece[:, :, low:high])
            at += rows
        return found[0] if len(found) == 1 else torch.cat(found, dim=2)

    def drop(self, row: int) -> None:
        """Forget what lies above `row`, so that its memory is free."""
        while self._pieces and self._start < row:
            rows = _height(self._pieces[0])
            surplus = row - self._start
            if surplus < rows:
                # A view would hold the memory of the whole piece.
                self._pieces[0] = self._pieces[0][:, :, surplus:].clone()
                self._start = row
                return
            del self._pieces[0]
            self._start += rows


def forward_by_rows(module: NetworkModule, images: Tensor, strip: int, see: See) -> Tensor:
    """The logits of `module`, as it gives them in eval mode, up to rounding; maps are only seen.

    Args:
        module: In eval mode.
        images: (images, 3, height, height) float.
        strip: Rows of the images that are taken at a time: with few of them little memory is used.
        see: Called with every layer's name, the rows that it has just read and the next rows of its
            map, from top to bottom: (images, channels, rows, width), or (images, features) behind
            the global pool. An operation that writes over its input gives the same tensor twice,
            and what `see` is given may be overwritten once it returns.

    Raises:
        ValueError: The module is in training mode, or `strip` is out of range.
    """
    if module.training:
        raise ValueError("in training mode a batch norm needs all rows at once")
    rows = _RowPass(module, images, see)
    for step in row_steps(module.network, images.shape[2], strip):
        rows.take(step)
    return rows.maps[module.network.output].read(0, 1)


class _RowPass:
    """A forward pass under way: the rows of each map that are still wanted."""

    def __init__(self, module: NetworkModule, images: Tensor, see: See) -> None:
        self.maps = {INPUT: _Rows(), **{layer.name: _Rows() for layer in module.network}}
        self.maps[INPUT].append(images)
        self._module = module
        self._see = see
        self._overwritable = _overwritable(module.network)
        self._pooled: dict[str, Tensor] = {}

    def take(self, step: RowStep) -> None:
        """Take one step; nothing but the wanted rows outlives it."""
        inputs = [self.maps[source].read(step.start, step.stop) for source in step.layer.inputs]
        for source, row in step.keep.items():
            if source != INPUT:  # the caller holds the images whatever is dropped here
                self.maps[source].drop(row)
        by_rows = self._module.network.by_rows
        rows = self._computed(step, inputs) if by_rows else self._part(step)(*inputs)
        if rows is not None:
            self._see(step.layer.name, inputs[0], rows)
            self.maps[step.layer.name].append(rows)

    def _part(self, step: RowStep) -> nn.Module:
        return self._module.get_submodule(step.layer.name)

    def _computed(self, step: RowStep, inputs: list[Tensor]) -> Tensor | None:
        part = self._part(step)
        overwrites = step.layer.name in self._overwritable
        match step.layer.operation:
            case GlobalAveragePool():
                return self._averaged(step, inputs[0])
            case Convolution() | MaxPool():
                return _windowed(step, part, inputs[0])
            case BatchNorm() if overwrites:
                return _normalised_in_place(cast("nn.BatchNorm2d", part), inputs[0])
            case Relu() if overwrites:
                return inputs[0].relu_()
            case Add() if overwrites:
                return inputs[0].add_(inputs[1])
            case _:
                return cast("Tensor", part(*inputs))

    def _averaged(self, step: RowStep, rows: Tensor) -> Tensor | None:
        """The average over a map, once its last rows are here."""
        name = step.layer.name
        share = rows.mean(dim=(2, 3)) * rows.shape[2]
        self._pooled[name] = self._pooled[name] + share if step.start else share
        return None if step.last == step.first else self._pooled.pop(name) / step.stop


def _normalised_in_place(norm: nn.BatchNorm2d, rows: Tensor) -> Tensor:
    mean, variance = cast("Tensor", norm.running_mean), cast("Tensor", norm.running_var)
    scale = norm.weight * torch.rsqrt(variance + norm.eps)
    shift = norm.bias - mean * scale
    shape = (1, -1, 1, 1)
    return torch.addcmul(shift.view(shape), rows, scale.view(shape), out=rows)


def _overwritable(network: Network) -> frozenset[str]:
    """The layers whose first input nobody else reads, so that they may write over it."""
    read = Counter(source for layer in network for source in layer.inputs)
    shared = {layer.name for layer in network if layer.operation.shares_memory}
    return frozenset(
        layer.name
        for layer in network
        if layer.inputs[0] not in {INPUT, *shared} and read[layer.inputs[0]] == 1
    )


def _windowed(step: RowStep, part: nn.Module, rows: Tensor) -> Tensor:
    """A convolution or a max-pool of some rows, padded at the edges of the map alone."""
    operation = cast("Convolution | MaxPool", step.layer.operation)
    padding = along(operation.padding, 1)
    vertical = 0
    if _pads_itself(step, operation):
        vertical = along(operation.padding, 0)
    elif step.above or step.below:
        beyond = 0.0 if isinstance(operation, Convolution) else -torch.inf
        rows = F.pad(rows, (0, 0, step.above, step.below), value=beyond)
    if isinstance(part, nn.Conv2d):
        return live_convolution(
            rows,
            part.weight,
            part.bias,
            part.stride,
            (vertical, padding),
            part.dilation,
            part.groups,
        )
    if isinstance(part, WidePaddedMaxPool):
        rows, vertical, padding = padded_for_pool(rows, (vertical, padding)), 0, 0
    return F.max_pool2d(
        rows,
        operation.kernel_size,
        operation.stride,
        (vertical, padding),
        operation.dilation,
    )


def _pads_itself(step: RowStep, operation: Convolution | MaxPool) -> bool:
    """Whether the operation's own padding, above and below, makes these rows: no copy is needed."""
    reach = operation.reach(0, step.stop - step.start)
    made = reach.units(step.stop - step.start)
    return step.above == reach.padding and made == step.last - step.first


def _height(piece: Tensor) -> int:
    """Rows of a piece of a map; 1 behind the global pool, where there is no map any more."""
    return piece.shape[2] if piece.dim() == 4 else 1
