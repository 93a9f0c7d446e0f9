"""Receptive fields, map sizes, live weights and cost of a network, by arithmetic.

Each axis is computed separately, from the reach of every operation. The receptive field follows
Araujo, Norris & Sim, *Computing Receptive Fields of Convolutional Neural Networks*, Distill 2019,
but with the interval of the first unit in place of size and offset, so that a residual sum is the
hull of its branches.

A gate (squeeze-and-excitation) multiplies all units with numbers from the whole map. With it every
later receptive field would be infinite, although the numbers are the same for all places. So it
does not count: the window of such units is that of the map without the gate, and `Window.gated`
says that there is a gate.
"""

from dataclasses import dataclass
from functools import cache, cached_property

from rfray.errors import UserError
from rfray.models.network import INPUT, Layer, Network
from rfray.models.operations import AXES, Convolution, Reach, Shape

LiveTaps = tuple[tuple[bool, ...], tuple[bool, ...]]
"""Down and across: which of a kernel's taps along the axis are live."""


@dataclass(frozen=True)
class Window:
    """The part of the image that a unit sees along one axis, in pixels.

    Attributes:
        first: First pixel seen by the map's first unit; negative in the padding.
        last: Last pixel seen by the map's first unit.
        jump: Pixels between the windows of two neighbouring units; 0 if all units see the same.
        gated: Whether the units are also multiplied by a gate.
    """

    first: int = 0
    last: int = 0
    jump: int = 1
    gated: bool = False

    @property
    def size(self) -> int:
        """Receptive field: the number of pixels that a unit sees along one axis."""
        return self.last - self.first + 1

    def pixels(self, unit: int, image_size: int) -> range:
        """The pixels of an image that the unit with this index sees."""
        offset = unit * self.jump
        return range(max(self.first + offset, 0), min(self.last + offset + 1, image_size))


@dataclass(frozen=True)
class LayerGeometry:
    """The geometry of one layer for a square image of one size.

    Attributes:
        shape: Channels, height and width of its output; a vector's height and width are 1.
        windows: Receptive field of its units, down and across.
        weights: Number of weights (without biases and batch-norm parameters).
        parameters: Number of all trainable parameters.
        multiplications: Multiply-accumulate operations for one image.
    """

    name: str
    shape: Shape
    windows: tuple[Window, Window]
    weights: int
    live_weights: int
    parameters: int
    multiplications: int

    @property
    def map_size(self) -> int:
        """The longer side of its output map; 1 after the global pool."""
        return max(self.shape.height, self.shape.width)

    @property
    def window(self) -> Window:
        """Receptive field of its units along the axis where it is larger."""
        return max(self.windows, key=lambda window: window.size)


@dataclass(frozen=True)
class Geometry:
    """A network's layers at one image size, first to last."""

    layers: tuple[LayerGeometry, ...]
    convolution_names: tuple[str, ...]

    def layer(self, name: str) -> LayerGeometry:
        """The layer called `name`."""
        return next(layer for layer in self.layers if layer.name == name)

    @cached_property
    def last_convolution(self) -> LayerGeometry:
        """The last convolution of a map, without those of gates, whose units all see the same."""
        names = set(self.convolution_names)
        layers = [layer for layer in self.layers if layer.name in names]
        return next((layer for layer in reversed(layers) if layer.window.jump), layers[-1])

    @cached_property
    def receptive_field(self) -> int:
        """Theoretical receptive field at the last convolution, in pixels."""
        return self.last_convolution.window.size

    def beyond(self, image_size: int) -> tuple[str, ...]:
        """The convolutions of maps whose receptive field is larger than an image of this size.

        They can learn little that earlier layers cannot (Richter et al. 2021, *Size Matters*).
        """
        return tuple(
            layer.name
            for layer in self.layers
            if layer.name in self.convolution_names
            and layer.window.jump
            and layer.window.size > image_size
        )

    @cached_property
    def map_sizes(self) -> tuple[int, ...]:
        """The map sizes up to the last convolution, each once, in their order."""
        upto = self.layers.index(self.last_convolution) + 1
        maps = (layer for layer in self.layers[:upto] if layer.window.jump)
        return tuple(dict.fromkeys(layer.map_size for layer in maps))

    @cached_property
    def parameters(self) -> int:
        """Number of all trainable parameters."""
        return sum(layer.parameters for layer in self.layers)

    @cached_property
    def live_parameters(self) -> int:
        """Number of trainable parameters without the dead weights."""
        return self.parameters - sum(layer.weights - layer.live_weights for layer in self.layers)

    @cached_property
    def dead_fraction(self) -> float:
        """Share of the convolutions' weights that are dead, 0 to 1."""
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
        UserError: A map has no pixel left, or an operation cannot read its inputs.
    """
    shapes = _shapes(network, image_size)
    windows = tuple(_windows(network, shapes, axis) for axis in AXES)
    live_taps = _live_taps(network, shapes)
    layers = tuple(
        LayerGeometry(
            name=layer.name,
            shape=shapes[layer.name],
            windows=(windows[0][layer.name], windows[1][layer.name]),
            weights=layer.operation.weights,
            live_weights=_live_weights(layer, live_taps),
            parameters=layer.operation.parameters,
            multiplications=layer.operation.weights
            * shapes[layer.name].height
            * shapes[layer.name].width,
        )
        for layer in network
    )
    return Geometry(layers, tuple(layer.name for layer in network.convolutions))


def live_taps(network: Network, image_size: int) -> dict[str, LiveTaps]:
    """For each convolution, which of its taps along each axis are live.

    A tap is live if a unit that the output depends on applies it to a unit inside the map and not
    to padding. A weight at row i and column j of a kernel is live if tap i down and tap j across
    are both live.
    """
    return _live_taps(network, _shapes(network, image_size))


def _shapes(network: Network, image_size: int) -> dict[str, Shape]:
    shapes = {INPUT: Shape(3, image_size, image_size)}
    where = f"image size {image_size}"
    for layer in network:
        read = [shapes[name] for name in layer.inputs]
        try:
            shapes[layer.name] = layer.operation.output(read)
        except ValueError as error:
            raise UserError(f"layer '{layer.name}' {error}", where=where) from error
        if min(shapes[layer.name]) < 1:
            raise UserError(
                f"the map of layer '{layer.name}' would have no pixel: its input is "
                f"{read[0].height}×{read[0].width}",
                where=where,
                do="use a smaller kernel_size or larger images",
            )
    return shapes


def _reach(layer: Layer, shapes: dict[str, Shape], axis: int) -> Reach:
    return layer.operation.reach(axis, shapes[layer.inputs[0]].along(axis))


def _windows(network: Network, shapes: dict[str, Shape], axis: int) -> dict[str, Window]:
    windows = {INPUT: Window()}
    for layer in network:
        before = _hull([windows[name] for name in layer.inputs])
        reach = _reach(layer, shapes, axis)
        windows[layer.name] = Window(
            first=before.first - reach.padding * before.jump,
            last=before.last + (reach.span - 1 - reach.padding) * before.jump,
            jump=before.jump * reach.stride,
            gated=before.gated,
        )
    return windows


def _hull(windows: list[Window]) -> Window:
    """The window of units that read several maps; gates only set `gated`."""
    maps = [window for window in windows if window.jump]
    seen = maps or windows
    return Window(
        first=min(window.first for window in seen),
        last=max(window.last for window in seen),
        jump=seen[0].jump,
        gated=any(window.gated for window in windows) or len(seen) < len(windows),
    )


def _live_taps(network: Network, shapes: dict[str, Shape]) -> dict[str, LiveTaps]:
    down, across = (_live_along(network, shapes, axis) for axis in AXES)
    return {name: (down[name], across[name]) for name in down}


def _live_along(
    network: Network, shapes: dict[str, Shape], axis: int
) -> dict[str, tuple[bool, ...]]:
    """From the output back to the image, collect the places of each map that are needed."""
    sizes = {name: shape.along(axis) for name, shape in shapes.items()}
    needed: dict[str, set[int]] = {name: set() for name in sizes}
    needed[network.output] = set(range(sizes[network.output]))
    taps: dict[str, tuple[bool, ...]] = {}
    for layer in reversed(network.layers):
        reach = _reach(layer, shapes, axis)
        for source in layer.inputs:
            touched = _touched(reach, needed[layer.name], sizes[source])
            needed[source] |= set().union(*touched)
        if isinstance(layer.operation, Convolution):
            taps[layer.name] = tuple(bool(places) for places in touched)
    return taps


def _touched(reach: Reach, units: set[int], size: int) -> list[set[int]]:
    """For each tap, the places of a map of `size` that the units read with it."""
    if reach == Reach():  # place by place; all units read the single place of a gate
        return [units if size > 1 else {0 for _ in units}]
    return [
        {unit * reach.stride - reach.padding + tap * reach.dilation for unit in units}
        & set(range(size))
        for tap in range(reach.taps)
    ]


def _live_weights(layer: Layer, taps: dict[str, LiveTaps]) -> int:
    if layer.name not in taps:
        return layer.operation.weights
    down, across = taps[layer.name]
    all_taps = len(down) * len(across)
    return layer.operation.weights // all_taps * sum(down) * sum(across)
