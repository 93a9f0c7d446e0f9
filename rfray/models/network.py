"""A network as plain data: named layers in topological order, nothing of torch.

The receptive field, the map sizes, the dead taps and the cost are arithmetic over this
description (`rfray.models.geometry`), and the trainable module is built from the very same
description (`rfray.models.module`), so the two cannot disagree.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

INPUT = "input"
"""Name of the image as a layer's input."""


@dataclass(frozen=True)
class Convolution:
    """Square two-dimensional convolution."""

    in_channels: int
    out_channels: int
    kernel_size: int = 3
    stride: int = 1
    padding: int = 1
    dilation: int = 1
    bias: bool = False


@dataclass(frozen=True)
class MaxPool:
    """Square two-dimensional max-pool."""

    kernel_size: int
    stride: int
    padding: int = 0
    dilation: int = 1


@dataclass(frozen=True)
class BatchNorm:
    """Batch normalisation over the channels of a map."""

    channels: int


@dataclass(frozen=True)
class Relu:
    """Rectified linear unit."""


@dataclass(frozen=True)
class Add:
    """Sum of two maps of one shape: the end of a residual block."""


@dataclass(frozen=True)
class GlobalAveragePool:
    """Adaptive average pool to 1×1, flattened to a vector."""


@dataclass(frozen=True)
class Linear:
    """Fully connected layer with bias."""

    in_features: int
    out_features: int


Operation = Convolution | MaxPool | BatchNorm | Relu | Add | GlobalAveragePool | Linear


@dataclass(frozen=True)
class Layer:
    """One operation, its unique name (no dots) and the names of the layers that it reads."""

    name: str
    operation: Operation
    inputs: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Network:
    """A feed-forward network: layers in topological order, the last one its output (the logits).

    Compared and hashed by identity: what a network is, its digest says (`rfray.keys`).
    """

    layers: tuple[Layer, ...] = ()

    def __iter__(self) -> Iterator[Layer]:
        return iter(self.layers)

    @property
    def output(self) -> str:
        """Name of the last layer, or of the image while there is none."""
        return self.layers[-1].name if self.layers else INPUT

    def then(self, name: str, operation: Operation, *inputs: str) -> Network:
        """This network with one more layer; it reads the present output unless `inputs` are named.

        Raises:
            ValueError: The name is taken, or an input is not a layer of this network.
        """
        known = {INPUT, *(layer.name for layer in self.layers)}
        if name in known:
            raise ValueError(f"two layers are called '{name}'")
        reads = inputs or (self.output,)
        unknown = [source for source in reads if source not in known]
        if unknown:
            raise ValueError(f"layer '{name}' reads '{unknown[0]}', which is no earlier layer")
        return replace(self, layers=(*self.layers, Layer(name, operation, reads)))

    @property
    def convolutions(self) -> tuple[Layer, ...]:
        """The convolutional layers, first to last."""
        return tuple(layer for layer in self if isinstance(layer.operation, Convolution))

    @property
    def batch_norms(self) -> tuple[Layer, ...]:
        """The batch norms, first to last."""
        return tuple(layer for layer in self if isinstance(layer.operation, BatchNorm))

    @property
    def weight_layers(self) -> tuple[Layer, ...]:
        """The convolutional and linear layers, first to last."""
        return tuple(layer for layer in self if isinstance(layer.operation, Convolution | Linear))


def scaled(channels: int, width: float) -> int:
    """`channels` times the width multiplier, rounded to the nearest whole channel, at least one."""
    return max(1, round(channels * width))
