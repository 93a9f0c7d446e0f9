"""What cka computes of one network: the Gram matrix of every layer, within a budget of memory."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, cast

from rfray.models.geometry import geometry
from rfray.models.network import INPUT, Network
from rfray.models.operations import Convolution, Extent

if TYPE_CHECKING:
    from torch import Tensor, nn

    from rfray.models.module import NetworkModule
    from rfray.numerics.kernel_alignment import BlockPass, GramSum

_NUMBER_BYTES = 4


def blocks_within(network: Network, image_size: int, images: int, budget: int) -> int:
    """Into how few blocks the images must be cut for a budget of memory, two at the least.

    Pairs of blocks go through the network one after the other: of two blocks all images at once, of
    B blocks each image B - 1 times.

    Args:
        network: The network.
        image_size: Height of the square images.
        images: How many images.
        budget: Bytes for float32 maps. Blocks of one image are taken whatever they need.
    """
    each = _NUMBER_BYTES * most_alive(network, image_size)
    for blocks in range(2, images):
        # The first image is in every pair of blocks.
        together = images if blocks == 2 else 2 * math.ceil(images / blocks) + 1
        if each * together <= budget:
            return blocks
    return images


def most_alive(network: Network, image_size: int) -> int:
    """The most numbers of maps that a forward pass of one image holds at once, the image aside."""
    numbers = {one.name: math.prod(one.shape) for one in geometry(network, image_size).layers}
    numbers[INPUT] = 0
    last_reader = {name: layer.name for layer in network for name in layer.inputs}
    alive = most = 0
    for layer in network:
        alive += numbers[layer.name]
        most = max(most, alive)
        read_out = {name for name in layer.inputs if last_reader[name] == layer.name}
        alive -= sum(numbers[name] for name in read_out)
    return most


def gram_rows(
    module: NetworkModule,
    images: Tensor,
    blocks: int = 2,
    estimator: type[GramSum] | None = None,
) -> Tensor:
    """Normalised Gram matrices of all convolutions and linear layers of one network.

    Args:
        module: In eval mode.
        images: (N, 3, height, height), float32 or float64 as the module is, on its device.
        blocks: Into how many the images are cut; it changes the result by rounding alone.
        estimator: What sums a layer's Gram matrix; `GramSum` by default.

    Returns:
        (layers, N²) float32, as `rfray.numerics.kernel_alignment.alignment` takes them.

    Raises:
        NumericsError: A feature is not finite, named by its layer.
    """
    import torch

    from rfray.numerics.kernel_alignment import GramSum, block_passes
    from rfray.numerics.precision import full_precision

    passes = block_passes(len(images), blocks)
    gathered = _GramRows(module, images, passes, estimator or GramSum)
    with torch.inference_mode(), full_precision(images.device):
        for block in passes:
            with gathered.watching(block):
                module(images if len(passes) == 1 else images[block.images])
    return gathered.rows


class _GramRows:
    """The normalised Gram matrices of a network's layers, made while its features come in."""

    def __init__(
        self,
        module: NetworkModule,
        images: Tensor,
        passes: list[BlockPass],
        estimator: type[GramSum],
    ) -> None:
        import torch

        layers = [layer.name for layer in module.network.weight_layers]
        self.rows = torch.empty(len(layers), len(images) ** 2, device=images.device)
        self._places = dict(zip(layers, self.rows, strict=True))
        self._sum = partial(estimator, len(images), images.device, images.dtype)
        self._sums: dict[str, GramSum] = {}
        self._last = passes[-1]
        self._module = module
        self._slim = _slim_weights(module)

    @contextmanager
    def watching(self, block: BlockPass) -> Iterator[None]:
        """Inside, the features of all layers in a forward pass of a block's images are added."""
        hooks = [
            self._module.get_submodule(name).register_forward_hook(
                lambda _layer, read, features, name=name: self._add(name, block, read[0], features)
            )
            for name in self._places
        ]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def _add(self, name: str, block: BlockPass, read: Tensor, features: Tensor) -> None:
        """Add a layer's features, and end its sum with those of the last pass."""
        import torch.nn.functional as F

        if name in self._slim:
            weight, stride = self._slim[name]
            features = F.conv2d(read, weight, stride=stride)
        gram = self._sums.get(name) or self._sums.setdefault(name, self._sum())
        gram.add(features, block)
        if block == self._last:
            # At once: it is in the processor's cache, and the next layer can have its memory.
            _write_normalised(name, self._sums.pop(name), self._places[name])


def _slim_weights(module: NetworkModule) -> dict[str, tuple[Tensor, Extent]]:
    """For 1×1 convolutions with more outputs than inputs, weights with as many, and the stride.

    The Gram matrix is the same, and less work. A bottleneck's last convolution and its shortcut's
    are such, and hold more than half of a ResNet's features.
    """
    from rfray.numerics.kernel_alignment import equal_gram_weight

    return {
        layer.name: (
            equal_gram_weight(_weight(module, layer.name).flatten(1))[:, :, None, None],
            convolution.stride,
        )
        for layer in module.network.convolutions
        if isinstance(convolution := layer.operation, Convolution)
        and (convolution.kernel_size, convolution.padding, convolution.groups) == (1, 0, 1)
        and convolution.out_channels > convolution.in_channels
    }


def _weight(module: NetworkModule, layer: str) -> Tensor:
    return cast("nn.Conv2d", module.get_submodule(layer)).weight.detach()


def _write_normalised(layer: str, gram: GramSum, row: Tensor) -> None:
    from rfray.numerics.errors import NumericsError

    try:
        gram.normalised(out=row)
    except NumericsError as error:
        raise NumericsError(f"layer '{layer}': {error}") from error
