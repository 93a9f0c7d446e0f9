"""The channels of a network that can be permuted without changing what it computes.

A unit is a channel of a layer that makes new channels. Later layers pass it on: norms and pools
keep it, sums tie it to another unit, concatenations and shuffles move it, flattening makes several
numbers of it. Each operation defines this itself (`Operation.descent`). Units can be permuted if
they are in the same layers, and in the same groups of layers that compute groups of channels
separately (`Operation.channel_groups`). The image's channels and the logits are fixed.

So channels are permuted within the groups of a grouped convolution. Those of a depthwise
convolution are permuted with the channels of its input, and those of a channel shuffle within the
channels that are later read together. Whole groups are not permuted.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rfray.models.geometry import geometry
from rfray.models.module import NetworkModule
from rfray.models.network import INPUT, Layer, Network
from rfray.models.operations import Descent, Shape
from rfray.numerics.weight_matching import Group, Integers, Occurrence, permuted

_IMAGE_CHANNELS = 3

Indices = NDArray[np.int64]


def channel_groups(network: Network, image_size: int) -> tuple[Group, ...]:
    """The groups of channels that can be permuted, those nearest to the input first.

    Their arrays have the names of the parameters and buffers of the network's module.

    Args:
        network: The network.
        image_size: Height and width of the images; flattened maps depend on it.
    """
    traced = _traced(network, image_size)
    return tuple(
        Group(tuple(_occurrences(network, traced, units)))
        for units in _interchangeable(network, traced)
    )


def permuted_state(
    state: Mapping[str, Tensor], groups: Sequence[Group], orders: Sequence[Integers]
) -> dict[str, Tensor]:
    """A module's parameters and buffers with permuted channels: the same function.

    Args:
        state: By name, as from `state_dict`; not changed.
        groups: The network's.
        orders: For each group, the channel that moves to each place, (channels,).
    """
    arrays = permuted({n: one.detach().cpu().numpy() for n, one in state.items()}, groups, orders)
    return {name: torch.from_numpy(array).to(state[name]) for name, array in arrays.items()}


@dataclass(frozen=True)
class _Channels:
    """The units of a layer's output channels.

    Attributes:
        unit: For each channel, its unit, (channels,).
        place: For each channel, which of the numbers of that unit it is, (channels,).
    """

    unit: Indices
    place: Indices

    def __len__(self) -> int:
        return len(self.unit)


class _Ties:
    """Units that are permuted together, and units that are fixed."""

    def __init__(self) -> None:
        self.fixed: set[int] = set()
        self._parents: list[int] = []

    def new(self, count: int) -> _Channels:
        """A number of new units."""
        start = len(self._parents)
        self._parents += range(start, start + count)
        units = np.arange(start, start + count)
        return _Channels(units, np.zeros_like(units))

    def tie(self, one: _Channels, other: _Channels) -> None:
        """Tie the units at the same channels; they are fixed if they are split differently."""
        for a, b, alike in zip(one.unit, other.unit, one.place == other.place, strict=True):
            self._parents[self.root(a)] = self.root(b)
            if not alike:
                self.fixed.add(int(a))

    def root(self, unit: int) -> int:
        """The representative of all units that are tied to this one."""
        while self._parents[unit] != unit:
            self._parents[unit] = self._parents[self._parents[unit]]
            unit = self._parents[unit]
        return int(unit)

    def settled(self, channels: _Channels) -> _Channels:
        """The same channels, with the representatives of their units."""
        return _Channels(np.array([self.root(unit) for unit in channels.unit]), channels.place)


@dataclass(frozen=True)
class _Traced:
    """The channels of a network.

    Attributes:
        channels: For every layer, and for the image, its channels.
        fixed: The units that are not permuted.
        makers: The layers that make new channels.
        arrays: By layer, the names of its parameters and buffers.
    """

    channels: Mapping[str, _Channels]
    fixed: frozenset[int]
    makers: frozenset[str]
    arrays: Mapping[str, Sequence[str]]


def _traced(network: Network, image_size: int) -> _Traced:
    shapes = {layer.name: layer.shape for layer in geometry(network, image_size).layers}
    shapes[INPUT] = Shape(_IMAGE_CHANNELS, image_size, image_size)
    ties = _Ties()
    channels = {INPUT: ties.new(_IMAGE_CHANNELS)}
    makers = set()
    for layer in network:
        reads = [channels[name] for name in layer.inputs]
        maps = [
            shapes[name]._replace(channels=len(one))
            for name, one in zip(layer.inputs, reads, strict=True)
        ]
        descents = layer.operation.descent(maps)
        if descents:
            channels[layer.name] = _descended(descents, reads, ties)
        else:
            channels[layer.name] = ties.new(layer.operation.output(maps).channels)
            makers.add(layer.name)
    ties.fixed.update(int(unit) for name in (INPUT, network.output) for unit in channels[name].unit)
    settled = {name: ties.settled(one) for name, one in channels.items()}
    fixed = {ties.root(unit) for unit in ties.fixed}
    fixed.update(unit for one in settled.values() for unit in _twice(one))
    return _Traced(settled, frozenset(fixed), frozenset(makers), _arrays(network))


def _descended(descents: Sequence[Descent], reads: Sequence[_Channels], ties: _Ties) -> _Channels:
    """The channels of an output that come from its inputs."""
    parts: dict[int, _Channels] = {}
    for descent in descents:
        source = reads[descent.source]
        chosen, each = np.asarray(descent.channels, dtype=np.int64), descent.numbers
        part = _Channels(
            source.unit[chosen].repeat(each),
            source.place[chosen].repeat(each) * each + np.tile(np.arange(each), len(chosen)),
        )
        # Descents of one output either begin at the same channel, or follow one another.
        if descent.first in parts:
            ties.tie(parts[descent.first], part)
        else:
            parts[descent.first] = part
    ordered = [parts[first] for first in sorted(parts)]
    return _Channels(
        np.concatenate([part.unit for part in ordered]),
        np.concatenate([part.place for part in ordered]),
    )


def _twice(channels: _Channels) -> Iterator[int]:
    """Units that a map contains twice, so that the two cannot be distinguished."""
    seen: set[tuple[int, int]] = set()
    for key in zip(channels.unit.tolist(), channels.place.tolist(), strict=True):
        if key in seen:
            yield key[0]
        seen.add(key)


def _interchangeable(network: Network, traced: _Traced) -> list[list[int]]:
    """Groups of units that are in the same layers, in order; without fixed and single units."""
    seen_in: defaultdict[int, list[tuple[int, int, int]]] = defaultdict(list)
    for number, channels, parts in _readings(network, traced):
        part = np.arange(len(channels)) * parts // len(channels)
        for unit, *where in zip(
            channels.unit.tolist(), channels.place.tolist(), part.tolist(), strict=True
        ):
            seen_in[unit].append((number, where[0], where[1]))
    alike: defaultdict[tuple[tuple[int, int, int], ...], list[int]] = defaultdict(list)
    for unit in sorted(seen_in):
        if unit not in traced.fixed:
            alike[tuple(sorted(seen_in[unit]))].append(unit)
    return sorted(units for units in alike.values() if len(units) > 1)


def _readings(network: Network, traced: _Traced) -> Iterator[tuple[int, _Channels, int]]:
    """Every output, and every input that is read in groups: (number, channels, groups)."""
    for number, layer in enumerate(network):
        parts = layer.operation.channel_groups
        yield 2 * number, traced.channels[layer.name], parts
        if parts > 1:
            yield 2 * number + 1, traced.channels[layer.inputs[0]], parts


def _occurrences(network: Network, traced: _Traced, units: Sequence[int]) -> Iterator[Occurrence]:
    """The occurrences of these units in the arrays of the network."""
    for layer in network:
        arrays = traced.arrays.get(layer.name, ())
        index = _places(traced.channels[layer.name], units) if arrays else None
        if index is not None:
            yield from (Occurrence(name, 0, index) for name in arrays)
        if layer.name in traced.makers:
            yield from _read_by(layer, traced, units)


def _read_by(layer: Layer, traced: _Traced, units: Sequence[int]) -> Iterator[Occurrence]:
    """Their occurrences along the second axis of a layer's weight, group by group."""
    name, parts = f"{layer.name}.weight", layer.operation.channel_groups
    channels = traced.channels[layer.inputs[0]]
    index = _places(channels, units)
    if index is None:
        return
    if parts == 1:
        yield Occurrence(name, 1, index)
        return
    inputs, outputs = len(channels) // parts, len(traced.channels[layer.name]) // parts
    for column in index.T:
        part = int(column[0]) // inputs
        rows = range(part * outputs, (part + 1) * outputs)
        yield Occurrence(name, 1, (column - part * inputs)[:, None], rows)


def _places(channels: _Channels, units: Sequence[int]) -> Indices | None:
    """The channels of each unit, (units, numbers of each); None if there are none."""
    order = np.lexsort((channels.place, channels.unit))
    lying = channels.unit[order]
    starts = np.searchsorted(lying, units, side="left")
    stops = np.searchsorted(lying, units, side="right")
    count = int(stops[0] - starts[0])
    if count == 0:
        return None
    return np.asarray(order[starts[:, None] + np.arange(count)], dtype=np.int64)


def _arrays(network: Network) -> dict[str, list[str]]:
    """By layer, the parameters and buffers with one value per channel."""
    with torch.device("meta"):
        state = NetworkModule(network).state_dict()
    found: dict[str, list[str]] = {}
    for name, tensor in state.items():
        if tensor.dim():
            found.setdefault(name.rpartition(".")[0], []).append(name)
    return found
