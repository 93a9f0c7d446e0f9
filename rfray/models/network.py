"""A network as plain data: named layers in topological order, without torch.

The receptive field, the map sizes, the dead taps and the cost are computed from this description
(`rfray.models.geometry`), and the trainable module is built from the same description
(`rfray.models.module`), so the two always agree.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from rfray.models import operations as ops

if TYPE_CHECKING:
    from torch import Tensor

INPUT = "input"
"""Name of the image as a layer's input."""


@dataclass(frozen=True)
class Layer:
    """One operation, its unique name and the names of the layers that it reads.

    Dots in a name nest, as in the names of a module's parameters.
    """

    name: str
    operation: ops.Operation
    inputs: tuple[str, ...]


@dataclass(frozen=True)
class Origin:
    """The origin of a network that is not rfray's own.

    Attributes:
        code: Digest of the code that makes it, which is part of keys.
        initial: Draws new initial parameters and buffers, by its own names; None: as PyTorch's
            modules do.
    """

    code: str
    initial: Callable[[], Mapping[str, Tensor]] | None = None


@dataclass(frozen=True, eq=False)
class Network:
    """A feed-forward network: layers in topological order, the last one its output (the logits).

    It is initialised by its origin, or else as PyTorch's modules are. `stem` is the name of the
    layer after which a pool for the receptive field is put; by default the first convolution.
    Networks are compared and hashed by identity; their content has a digest (`rfray.plan.keys`).
    """

    layers: tuple[Layer, ...] = ()
    origin: Origin | None = None
    stem: str | None = None

    def __iter__(self) -> Iterator[Layer]:
        return iter(self.layers)

    @property
    def output(self) -> str:
        """Name of the last layer, or of the image if there is no layer yet."""
        return self.layers[-1].name if self.layers else INPUT

    def then(self, name: str, operation: ops.Operation, *inputs: str) -> Network:
        """This network with one more layer, which reads `inputs`, or else the last layer.

        Raises:
            ValueError: The name is taken, or an input is not a layer of this network.
        """
        known = {INPUT, *(layer.name for layer in self.layers)}
        if name in known:
            raise ValueError(f"two layers are called '{name}'")
        reads = inputs or (self.output,)
        unknown = [source for source in reads if source not in known]
        if unknown:
            raise ValueError(f"layer '{name}' reads '{unknown[0]}', which is not an earlier layer")
        return replace(self, layers=(*self.layers, Layer(name, operation, reads)))

    def with_behind(self, place: str, name: str, operation: ops.Operation) -> Network:
        """This network with a new layer after the layer `place`; all readers of that one read it.

        Raises:
            ValueError: The name is taken, or there is no layer `place`.
        """
        names = [layer.name for layer in self.layers]
        if name in names:
            raise ValueError(f"two layers are called '{name}'")
        upto = names.index(place) + 1
        behind = tuple(
            replace(one, inputs=tuple(name if read == place else read for read in one.inputs))
            for one in self.layers[upto:]
        )
        return replace(
            self, layers=(*self.layers[:upto], Layer(name, operation, (place,)), *behind)
        )

    def with_operations(self, operations: Mapping[str, ops.Operation]) -> Network:
        """This network with other operations in the layers of `operations`."""
        layers = (
            replace(layer, operation=operations.get(layer.name, layer.operation))
            for layer in self.layers
        )
        return replace(self, layers=tuple(layers))

    @property
    def convolutions(self) -> tuple[Layer, ...]:
        """The convolutional layers, first to last."""
        return tuple(layer for layer in self if isinstance(layer.operation, ops.Convolution))

    @property
    def batch_norms(self) -> tuple[Layer, ...]:
        """The batch norms, first to last."""
        return tuple(layer for layer in self if isinstance(layer.operation, ops.BatchNorm))

    @property
    def weight_layers(self) -> tuple[Layer, ...]:
        """The convolutional and linear layers, first to last."""
        return tuple(
            layer for layer in self if isinstance(layer.operation, ops.Convolution | ops.Linear)
        )

    @property
    def weights(self) -> tuple[str, ...]:
        """Names of the weights of the convolutional and linear layers, first to last."""
        return tuple(f"{layer.name}.weight" for layer in self.weight_layers)

    @property
    def unread(self) -> tuple[Layer, ...]:
        """The layers that the output does not depend on."""
        read = {layer.name for layer in needed(self.layers, self.output)}
        return tuple(layer for layer in self if layer.name not in read)

    @property
    def last_pool(self) -> Layer:
        """The layer that makes the last map a vector, alone or with later layers.

        The last average pool over a whole map; if there is none, the flattening of the map.
        """
        for kinds in ((ops.GlobalAveragePool, ops.AdaptiveAveragePool), (ops.Flatten,)):
            pools = [layer for layer in self if isinstance(layer.operation, kinds)]
            if pools:
                return pools[-1]
        raise ValueError("the network does not make a vector of its last map")

    @property
    def trunk(self) -> tuple[Layer, ...]:
        """The layers before the last pool: they do not depend on the number of classes."""
        return self.layers[: self.layers.index(self.last_pool)]


def needed(layers: Sequence[Layer], output: str) -> list[Layer]:
    """The layers that the layer `output` depends on, with itself."""
    names = {output}
    kept = []
    for layer in reversed(layers):
        if layer.name in names:
            names.update(layer.inputs)
            kept.append(layer)
    return kept[::-1]


def scaled(channels: int, width: float) -> int:
    """`channels` times the width multiplier, rounded to the nearest whole channel, at least one."""
    return max(1, round(channels * width))
