"""Every operation of a network, with its module, shape, reach, weights and cost in one place.

An operation is plain data; torch is imported only to make its module. `Operation.reach` says for
each axis which places of its input each unit reads. Map sizes, receptive fields and live taps are
computed from that.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from importlib import import_module
from typing import TYPE_CHECKING, ClassVar, Literal, NamedTuple, dataclass_transform

if TYPE_CHECKING:
    from torch import Tensor, nn

Extent = int | tuple[int, int]
"""Down and across; one number if both are the same."""

AXES = (0, 1)
"""Down (rows, the height) and across (columns, the width)."""


def extent(down: int, across: int) -> Extent:
    """As in descriptions: one number if both axes are equal, so that equal extents are equal."""
    return down if down == across else (down, across)


def along(one: Extent, axis: int) -> int:
    """The extent along one axis."""
    return one if isinstance(one, int) else one[axis]


class Shape(NamedTuple):
    """The shape for one image: of a map, or of a vector, with height and width 1."""

    channels: int
    height: int
    width: int

    def along(self, axis: int) -> int:
        """Height or width."""
        return self[1 + axis]


@dataclass(frozen=True)
class Reach:
    """The places of the input that the units of a map read, along one axis.

    Unit i reads the places i·stride - padding + tap·dilation. With a stride of 0 all units read the
    same places.

    Attributes:
        taps: Number of places that a unit reads.
        stride: Places between the first taps of two neighbouring units.
        padding: Places added on each side of the input.
        dilation: Places between taps.
        ceil: Whether a last unit may read beyond the padding (PyTorch's `ceil_mode`).
    """

    taps: int = 1
    stride: int = 1
    padding: int = 0
    dilation: int = 1
    ceil: bool = False

    @property
    def span(self) -> int:
        """Number of places from the first tap to the last."""
        return self.dilation * (self.taps - 1) + 1

    def units(self, size: int) -> int:
        """Number of units for an input of `size` places; below 1 if the input is too small."""
        beyond = size + 2 * self.padding - self.span
        if self.ceil and beyond >= 0:
            units = -(-beyond // self.stride) + 1
            # In PyTorch no window starts in the padding after the map.
            return units - 1 if (units - 1) * self.stride >= size + self.padding else units
        return beyond // self.stride + 1


def whole(size: int) -> Reach:
    """The reach of units that read all places of a map of this size."""
    return Reach(taps=size, stride=0)


@dataclass(frozen=True)
class Descent:
    """Channels of an output that come from channels of an input: they are permuted together.

    Attributes:
        source: Index of the input.
        channels: Its channels, in order.
        first: The first channel of the output that they become.
        numbers: Number of consecutive channels of the output that each of them becomes.
    """

    source: int
    channels: Sequence[int]
    first: int = 0
    numbers: int = 1


@dataclass_transform(frozen_default=True)
class Operation:
    """The computation of one layer; by default it works on each place separately.

    Each operation is a frozen dataclass. `module` is the class of its torch module, with the
    package; its fields are the arguments of that class, in their order.
    """

    _module_class: ClassVar[str]

    def __init_subclass__(cls, *, module: str = "") -> None:
        super().__init_subclass__()
        if module:
            cls._module_class = module
        dataclass(frozen=True)(cls)

    def module(self) -> nn.Module:
        """The torch module that computes it, with the default initialisation of its class."""
        package, _, name = self._module_class.rpartition(".")
        settings = [getattr(self, field.name) for field in fields(self)]  # type: ignore[arg-type]
        module: nn.Module = getattr(import_module(package), name)(*settings)
        return module

    def output(self, inputs: Sequence[Shape]) -> Shape:
        """The shape of its output for the shapes of its inputs.

        Raises:
            ValueError: It cannot read these, in words that follow the layer's name.
        """
        return inputs[0]

    def reach(self, axis: int, size: int) -> Reach:
        """The places that its units read of inputs with `size` places along `axis`."""
        return Reach()

    def descent(self, inputs: Sequence[Shape]) -> tuple[Descent, ...]:
        """Which channels of its output come from an input; empty if it makes new channels.

        If two descents give the same channel of the output, as in a sum, the channels that they
        come from must be permuted together.

        The first axis of all parameters and buffers is along the output's channels. If it makes new
        channels, the second axis of its weight is along the input's channels.
        """
        return (Descent(0, range(inputs[0].channels)),)

    @property
    def channel_groups(self) -> int:
        """Number of equal groups of its channels that are computed separately."""
        return 1

    @property
    def weights(self) -> int:
        """Number of weights: without biases and parameters of norms."""
        return 0

    @property
    def parameters(self) -> int:
        """Number of all trainable parameters."""
        return self.weights


class _Function(Operation, ABC):
    """A function of maps without parameters, which is the same in training and in eval mode."""

    def module(self) -> nn.Module:
        from rfray.models.parts import Computed

        return Computed(self.compute)

    @abstractmethod
    def compute(self, *maps: Tensor) -> Tensor:
        """Its output for maps (images, channels, height, width), or vectors."""


class _Window:
    """A kernel that moves over a map."""

    kernel_size: Extent
    stride: Extent
    padding: Extent
    dilation: Extent = 1
    ceil_mode: bool = False

    def output(self, inputs: Sequence[Shape]) -> Shape:
        (before,) = inputs
        sizes = (self.reach(axis, before.along(axis)).units(before.along(axis)) for axis in AXES)
        return Shape(before.channels, *sizes)

    def reach(self, axis: int, size: int) -> Reach:
        return Reach(
            along(self.kernel_size, axis),
            along(self.stride, axis),
            along(self.padding, axis),
            along(self.dilation, axis),
            self.ceil_mode,
        )


class Convolution(_Window, Operation):
    """Two-dimensional convolution."""

    in_channels: int
    out_channels: int
    kernel_size: Extent = 3
    stride: Extent = 1
    padding: Extent = 1
    dilation: Extent = 1
    bias: bool = False
    groups: int = 1

    def module(self) -> nn.Module:
        from torch import nn

        # By name: in torch `groups` comes before `bias`.
        return nn.Conv2d(**asdict(self))

    def output(self, inputs: Sequence[Shape]) -> Shape:
        return super().output(inputs)._replace(channels=self.out_channels)

    def descent(self, inputs: Sequence[Shape]) -> tuple[Descent, ...]:
        if not self._depthwise:
            return ()
        multiplier = self.out_channels // self.in_channels
        return (Descent(0, range(self.in_channels), numbers=multiplier),)

    @property
    def channel_groups(self) -> int:
        # The channels of a depthwise convolution are permuted with those of its input.
        return 1 if self._depthwise else self.groups

    @property
    def _depthwise(self) -> bool:
        return self.groups == self.in_channels > 1

    @property
    def weights(self) -> int:
        taps = along(self.kernel_size, 0) * along(self.kernel_size, 1)
        return self.in_channels // self.groups * self.out_channels * taps

    @property
    def parameters(self) -> int:
        return self.weights + (self.out_channels if self.bias else 0)


class MaxPool(_Window, Operation):
    """Two-dimensional max-pool; with `ceil_mode` a last window may extend over the edge."""

    kernel_size: Extent
    stride: Extent
    padding: Extent = 0
    dilation: Extent = 1
    ceil_mode: bool = False

    def module(self) -> nn.Module:
        from torch import nn

        from rfray.models.parts import WidePaddedMaxPool

        # PyTorch's pool refuses a padding of more than half of its kernel.
        if any(2 * along(self.padding, axis) > along(self.kernel_size, axis) for axis in AXES):
            return WidePaddedMaxPool(self.kernel_size, self.stride, self.padding, self.dilation)
        return nn.MaxPool2d(
            self.kernel_size, self.stride, self.padding, self.dilation, ceil_mode=self.ceil_mode
        )


class AveragePool(_Window, Operation, module="torch.nn.AvgPool2d"):
    """Two-dimensional average pool; padding counts as zeros, or not at all."""

    kernel_size: Extent
    stride: Extent
    padding: Extent = 0
    ceil_mode: bool = False
    count_include_pad: bool = True


class AdaptiveAveragePool(Operation, module="torch.nn.AdaptiveAvgPool2d"):
    """Average pool to a map of a given size, 1×1 for one."""

    output_size: Extent = 1

    def output(self, inputs: Sequence[Shape]) -> Shape:
        return Shape(inputs[0].channels, along(self.output_size, 0), along(self.output_size, 1))

    def reach(self, axis: int, size: int) -> Reach:
        units = along(self.output_size, axis)
        if units == 1 or size % units:
            # Bins of unequal size are not a moving window: an upper bound, exact for one bin.
            return whole(size)
        return Reach(taps=size // units, stride=size // units)


class _Norm:
    """A normalisation with a factor and a shift for each channel."""

    channels: int

    @property
    def parameters(self) -> int:
        return 2 * self.channels


class BatchNorm(_Norm, Operation, module="torch.nn.BatchNorm2d"):
    """Batch normalisation over the channels of a map."""

    channels: int
    eps: float = 1e-5
    momentum: float = 0.1


class VectorBatchNorm(BatchNorm, module="torch.nn.BatchNorm1d"):
    """Batch normalisation of a vector."""


class ChannelNorm(_Norm, Operation, module="rfray.models.parts.ChannelNormModule"):
    """Layer normalisation over the channels of each place, or of a vector."""

    channels: int
    eps: float = 1e-5


class GroupNorm(_Norm, Operation, module="torch.nn.GroupNorm"):
    """Normalisation of each group of channels over the places of one image."""

    groups: int
    channels: int
    eps: float = 1e-5

    @property
    def channel_groups(self) -> int:
        return self.groups


class Relu(Operation, module="torch.nn.ReLU"):
    """Rectified linear unit."""


class Relu6(Operation, module="torch.nn.ReLU6"):
    """Rectified linear unit with the upper limit 6."""


class LeakyRelu(Operation, module="torch.nn.LeakyReLU"):
    """Rectified linear unit with a slope below zero."""

    negative_slope: float = 0.01


class Elu(Operation, module="torch.nn.ELU"):
    """Exponential linear unit."""

    alpha: float = 1.0


class Silu(Operation, module="torch.nn.SiLU"):
    """Sigmoid linear unit (swish)."""


class Hardswish(Operation, module="torch.nn.Hardswish"):
    """Piecewise linear version of swish."""


class Gelu(Operation, module="torch.nn.GELU"):
    """Gaussian error linear unit."""

    approximate: Literal["none", "tanh"] = "none"


class Tanh(Operation, module="torch.nn.Tanh"):
    """Hyperbolic tangent."""


class Sigmoid(Operation, module="torch.nn.Sigmoid"):
    """Logistic function: the gate of squeeze-and-excitation."""


class Hardsigmoid(Operation, module="torch.nn.Hardsigmoid"):
    """Piecewise linear version of the logistic function."""


class Dropout(Operation, module="torch.nn.Dropout"):
    """Sets numbers to zero at random while training."""

    p: float = 0.5


class ChannelDropout(Operation, module="torch.nn.Dropout2d"):
    """Sets whole channels to zero at random while training."""

    p: float = 0.5


class StochasticDepth(Operation, module="torchvision.ops.StochasticDepth"):
    """Sets a whole branch to zero at random while training (Huang et al. 2016)."""

    p: float
    mode: Literal["batch", "row"] = "row"


class Scale(Operation, module="rfray.models.parts.ScaleModule"):
    """One trainable factor per channel (Touvron et al. 2021)."""

    channels: int

    @property
    def parameters(self) -> int:
        return self.channels


class Rescale(_Function):
    """Multiplies by a fixed factor and adds a fixed offset."""

    factor: float = 1.0
    offset: float = 0.0

    def compute(self, *maps: Tensor) -> Tensor:
        # Without operations that change nothing.
        scaled = maps[0] if self.factor == 1 else maps[0] * self.factor
        return scaled if self.offset == 0 else scaled + self.offset


class _ChannelByChannel(_Function):
    """A function that combines maps element by element."""

    def descent(self, inputs: Sequence[Shape]) -> tuple[Descent, ...]:
        # From every input, except one with a single channel, which is used for all.
        most = max(shape.channels for shape in inputs)
        return tuple(
            Descent(source, range(most))
            for source, shape in enumerate(inputs)
            if shape.channels == most
        )


class Add(_ChannelByChannel):
    """Sum of two maps of the same shape: the end of a residual block."""

    def output(self, inputs: Sequence[Shape]) -> Shape:
        _refuse_unequal("adds", inputs)
        return inputs[0]

    def compute(self, *maps: Tensor) -> Tensor:
        return maps[0] + maps[1]


class Product(_ChannelByChannel):
    """Product of two maps; one of them may be 1×1, such as the gate of squeeze-and-excitation."""

    def output(self, inputs: Sequence[Shape]) -> Shape:
        maps = [shape for shape in inputs if shape[1:] != (1, 1)]
        _refuse_unequal("multiplies", maps)
        return maps[0] if maps else inputs[0]

    def compute(self, *maps: Tensor) -> Tensor:
        return maps[0] * maps[1]


class Concatenate(_Function):
    """Joins the channels of maps of the same size."""

    def output(self, inputs: Sequence[Shape]) -> Shape:
        _refuse_unequal("joins", inputs)
        return inputs[0]._replace(channels=sum(shape.channels for shape in inputs))

    def descent(self, inputs: Sequence[Shape]) -> tuple[Descent, ...]:
        counts = [shape.channels for shape in inputs]
        return tuple(
            Descent(source, range(count), first=sum(counts[:source]))
            for source, count in enumerate(counts)
        )

    def compute(self, *maps: Tensor) -> Tensor:
        import torch

        return torch.cat(maps, dim=1)


class ChannelChunk(_Function):
    """One of several parts of equal size of a map's channels."""

    index: int
    chunks: int

    def output(self, inputs: Sequence[Shape]) -> Shape:
        channels, chunks = inputs[0].channels, self.chunks
        if channels % chunks:
            raise ValueError(f"cuts {channels} channels into {chunks} parts")
        return inputs[0]._replace(channels=channels // chunks)

    def descent(self, inputs: Sequence[Shape]) -> tuple[Descent, ...]:
        size = inputs[0].channels // self.chunks
        return (Descent(0, range(self.index * size, (self.index + 1) * size)),)

    def compute(self, *maps: Tensor) -> Tensor:
        return maps[0].chunk(self.chunks, dim=1)[self.index]


class ChannelSlice(_Function):
    """The channels from `start` up to `stop`, or up to the last."""

    start: int
    stop: int

    def output(self, inputs: Sequence[Shape]) -> Shape:
        channels = min(self.stop, inputs[0].channels) - self.start
        if channels < 1:
            raise ValueError(f"takes channel {self.start} of {inputs[0].channels}, counted from 0")
        return inputs[0]._replace(channels=channels)

    def descent(self, inputs: Sequence[Shape]) -> tuple[Descent, ...]:
        return (Descent(0, range(self.start, min(self.stop, inputs[0].channels))),)

    def compute(self, *maps: Tensor) -> Tensor:
        return maps[0][:, self.start : self.stop]


class ChannelShuffle(_Function):
    """Mixes the channels of groups: the first of each, the second of each, and so on."""

    groups: int

    def descent(self, inputs: Sequence[Shape]) -> tuple[Descent, ...]:
        channels = inputs[0].channels
        each = channels // self.groups
        return (Descent(0, [one for i in range(each) for one in range(i, channels, each)]),)

    def compute(self, *maps: Tensor) -> Tensor:
        groups: Tensor = maps[0].unflatten(1, (self.groups, -1))
        return groups.transpose(1, 2).flatten(1, 2)


class GlobalAveragePool(Operation):
    """Adaptive average pool to 1×1, flattened to a vector."""

    def module(self) -> nn.Module:
        from torch import nn

        return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())

    def output(self, inputs: Sequence[Shape]) -> Shape:
        return Shape(inputs[0].channels, 1, 1)

    def reach(self, axis: int, size: int) -> Reach:
        return whole(size)


class Flatten(Operation, module="torch.nn.Flatten"):
    """Makes a map a vector."""

    def output(self, inputs: Sequence[Shape]) -> Shape:
        channels, height, width = inputs[0]
        return Shape(channels * height * width, 1, 1)

    def descent(self, inputs: Sequence[Shape]) -> tuple[Descent, ...]:
        channels, height, width = inputs[0]
        return (Descent(0, range(channels), numbers=height * width),)

    def reach(self, axis: int, size: int) -> Reach:
        return whole(size)


class Linear(Operation, module="torch.nn.Linear"):
    """Fully connected layer, with an optional bias."""

    in_features: int
    out_features: int
    bias: bool = True

    def output(self, inputs: Sequence[Shape]) -> Shape:
        channels, height, width = inputs[0]
        if (channels, height, width) != (self.in_features, 1, 1):
            numbers = channels * height * width
            raise ValueError(f"reads {self.in_features:,} numbers, but is given {numbers:,}")
        return Shape(self.out_features, 1, 1)

    def descent(self, inputs: Sequence[Shape]) -> tuple[Descent, ...]:
        return ()

    @property
    def weights(self) -> int:
        return self.in_features * self.out_features

    @property
    def parameters(self) -> int:
        return self.weights + (self.out_features if self.bias else 0)


class ChannelLinear(Linear, module="rfray.models.parts.ChannelLinearModule"):
    """Fully connected layer over the channels of each place: the same as a 1×1 convolution."""

    def output(self, inputs: Sequence[Shape]) -> Shape:
        return inputs[0]._replace(channels=self.out_features)


def _refuse_unequal(does: str, inputs: Sequence[Shape]) -> None:
    for axis in AXES:
        sizes = [shape.along(axis) for shape in inputs]
        other = next((size for size in sizes if size != sizes[0]), None)
        if other is not None:
            raise ValueError(f"{does} maps of {sizes[0]} and {other} pixels")
