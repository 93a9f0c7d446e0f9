"""Receptive fields, map sizes, live weights and cost of a network, by arithmetic.

Every operation is square and treats both axes alike, so one axis is computed and squared. The
receptive field follows Araujo, Norris & Sim, *Computing Receptive Fields of Convolutional Neural
Networks*, Distill 2019, with the interval of the first unit carried instead of size and offset, so
that a residual sum is the hull of its branches.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, cached_property

from rfray.errors import UserError
from rfray.models.network import (
    INPUT,
    Add,
    BatchNorm,
    Convolution,
    GlobalAveragePool,
    Layer,
    Linear,
    MaxPool,
    Network,
)


@dataclass(frozen=True)
class Window:
    """What a unit sees of the image, along one axis, in pixels.

    Attributes:
        first: Leftmost pixel seen by the map's first unit; negative in the padding.
        last: Rightmost pixel seen by the map's first unit.
        jump: Pixels between the windows of two neighbouring units.
    """

    first: int = 0
    last: int = 0
    jump: int = 1

    @property
    def size(self) -> int:
        """Receptive field: how many pixels a unit sees along one axis."""
        return self.last - self.first + 1


@dataclass(frozen=True)
class LayerGeometry:
    """What one layer does to a square image of the given size.

    Attributes:
        name: The layer's name.
        map_size: Height and width of its output map; 1 behind the global pool.
        window: Receptive field of its units.
        weights: Number of weights (without biases and batch-norm parameters).
        live_weights: Those that can meet a real pixel on the way to the output.
        parameters: All trainable numbers.
        multiplications: Multiply-accumulate operations for one image.
    """

    name: str
    map_size: int
    window: Window
    weights: int
    live_weights: int
    parameters: int
    multiplications: int


@dataclass(frozen=True)
class Geometry:
    """A network's layers at one image size, first to last."""

    layers: tuple[LayerGeometry, ...]
    convolution_names: tuple[str, ...]

    def layer(self, name: str) -> LayerGeometry:
        """The layer called `name`."""
        return next(layer for layer in self.layers if layer.name == name)

    @cached_property
    def receptive_field(self) -> int:
        """Theoretical receptive field at the last convolution, in pixels."""
        return self.layer(self.convolution_names[-1]).window.size

    @cached_property
    def map_sizes(self) -> tuple[int, ...]:
        """The trace of map sizes up to the last convolution: each size once where it changes."""
        trace: list[int] = []
        for layer in self.layers:
            if trace[-1:] != [layer.map_size]:
                trace.append(layer.map_size)
            if layer.name == self.convolution_names[-1]:
                break
        return tuple(trace)

    @cached_property
    def parameters(self) -> int:
        """All trainable numbers."""
        return sum(layer.parameters for layer in self.layers)

    @cached_property
    def live_parameters(self) -> int:
        """Trainable numbers less the dead weights."""
        return self.parameters - sum(layer.weights - layer.live_weights for layer in self.layers)

    @cached_property
    def dead_fraction(self) -> float:
        """Share of the convolutions' weights that only ever meet padding, 0 to 1."""
        layers = [layer for layer in self.layers if layer.name in self.convolution_names]
        weights = sum(layer.weights for layer in layers)
        return 1 - sum(layer.live_weights for layer in layers) / weights

    @cached_property
    def multiplications(self) -> int:
        """Multiply-accumulate operations of one forward pass of one image."""
        return sum(layer.multiplications for layer in self.layers)


@cache
def geometry(network: Network, image_size: int) -> Geometry:
    """The geometry of `network` on square images of `image_size` pixels.

    Raises:
        UserError: A map collapses to nothing, or a sum is given maps of different sizes.
    """
    sizes = _map_sizes(network, image_size)
    windows = _windows(network)
    live_taps = _live_taps(network, sizes)
    layers = tuple(
        LayerGeometry(
            name=layer.name,
            map_size=sizes[layer.name],
            window=windows[layer.name],
            weights=_weights(layer),
            live_weights=_live_weights(layer, live_taps),
            parameters=_parameters(layer),
            multiplications=_weights(layer) * sizes[layer.name] ** 2,
        )
        for layer in network
    )
    return Geometry(layers, tuple(layer.name for layer in network.convolutions))


def live_taps(network: Network, image_size: int) -> dict[str, tuple[bool, ...]]:
    """Per convolution, which of its taps along one axis can meet a real pixel.

    A weight at row i and column j of a kernel is live if taps i and j both are. A tap is live if
    some unit that the output depends on applies it to a unit inside the map and not to padding.
    """
    return _live_taps(network, _map_sizes(network, image_size))


def _map_sizes(network: Network, image_size: int) -> dict[str, int]:
    sizes = {INPUT: image_size}
    for layer in network:
        read = [sizes[name] for name in layer.inputs]
        if len(set(read)) > 1:
            raise UserError(
                f"layer '{layer.name}' adds maps of {read[0]} and {read[1]} pixels",
                where=f"image size {image_size}",
            )
        sizes[layer.name] = _output_size(layer, read[0])
        if sizes[layer.name] < 1:
            raise UserError(
                f"the map collapses to nothing at layer '{layer.name}', whose input is "
                f"{read[0]}×{read[0]}",
                where=f"image size {image_size}",
                do="use a smaller kernel_size or larger images",
            )
    return sizes


def _output_size(layer: Layer, size: int) -> int:
    match layer.operation:
        case Convolution() | MaxPool() as window:
            span = window.dilation * (window.kernel_size - 1) + 1
            return (size + 2 * window.padding - span) // window.stride + 1
        case GlobalAveragePool():
            return 1
        case _:
            return size


def _windows(network: Network) -> dict[str, Window]:
    windows = {INPUT: Window()}
    for layer in network:
        read = [windows[name] for name in layer.inputs]
        match layer.operation:
            case Convolution() | MaxPool() as operation:
                before = read[0]
                reach = operation.dilation * (operation.kernel_size - 1) - operation.padding
                windows[layer.name] = Window(
                    first=before.first - operation.padding * before.jump,
                    last=before.last + reach * before.jump,
                    jump=before.jump * operation.stride,
                )
            case Add():
                windows[layer.name] = Window(
                    first=min(window.first for window in read),
                    last=max(window.last for window in read),
                    jump=read[0].jump,
                )
            case _:
                windows[layer.name] = read[0]
    return windows


def _live_taps(network: Network, sizes: dict[str, int]) -> dict[str, tuple[bool, ...]]:
    """Walk from the output to the image, carrying which positions of each map are ever needed."""
    needed: dict[str, set[int]] = {name: set() for name in sizes}
    needed[network.output] = set(range(sizes[network.output]))
    taps: dict[str, tuple[bool, ...]] = {}
    for layer in reversed(network.layers):
        source = layer.inputs[0]
        match layer.operation:
            case Convolution() | MaxPool() as operation:
                touched = [
                    {
                        unit * operation.stride - operation.padding + tap * operation.dilation
                        for unit in needed[layer.name]
                    }
                    & set(range(sizes[source]))
                    for tap in range(operation.kernel_size)
                ]
                needed[source] |= set().union(*touched)
                if isinstance(operation, Convolution):
                    taps[layer.name] = tuple(bool(positions) for positions in touched)
            case GlobalAveragePool():
                needed[source] |= set(range(sizes[source]))
            case _:
                for name in layer.inputs:
                    needed[name] |= needed[layer.name]
    return taps


def _weights(layer: Layer) -> int:
    match layer.operation:
        case Convolution() as conv:
            return conv.in_channels * conv.out_channels * conv.kernel_size**2
        case Linear() as linear:
            return linear.in_features * linear.out_features
        case _:
            return 0


def _live_weights(layer: Layer, taps: dict[str, tuple[bool, ...]]) -> int:
    match layer.operation:
        case Convolution() as conv:
            return conv.in_channels * conv.out_channels * sum(taps[layer.name]) ** 2
        case _:
            return _weights(layer)


def _parameters(layer: Layer) -> int:
    match layer.operation:
        case Convolution() as conv:
            return _weights(layer) + (conv.out_channels if conv.bias else 0)
        case Linear() as linear:
            return _weights(layer) + linear.out_features
        case BatchNorm() as norm:
            return 2 * norm.channels
        case _:
            return 0
