"""The part of cka for one network: the Gram matrix of every layer, with limited memory."""

from __future__ import annotations

import math
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
    """The smallest number of blocks of images, at least two, for which the maps fit into memory.

    Pairs of blocks go through the network one after the other: with two blocks all images at once,
    with B blocks each image B - 1 times. `budget` is bytes for float32 maps; blocks of one image
    are used even if they need more.
    """
    each = _NUMBER_BYTES * most_alive(network, image_size)
    for blocks in range(2, images):
        # The first image is in every pair of blocks.
        together = images if blocks == 2 else 2 * math.ceil(images / blocks) + 1
        if each * together <= budget:
            return blocks
    return images


def most_alive(network: Network, image_size: int) -> int:
    """The largest number of map values in memory at once in a forward pass of one image."""
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
    module: NetworkModule, images: Tensor, blocks: int = 2, estimator: type[GramSum] | None = None
) -> Tensor:
    """Normalised Gram matrices of all convolutions and linear layers, (layers, N²) float32.

    `module` is in eval mode, float32 or float64 as the N `images` (N, 3, height, height). The
    number of `blocks` of images changes the result by rounding only. A layer's Gram matrix is
    summed by `estimator`, `GramSum` by default.

    Raises:
        NumericsError: A feature is not finite; it names the layer.
    """
    import torch
    import torch.nn.functional as F

    from rfray.models.module import showing
    from rfray.numerics.errors import naming
    from rfray.numerics.kernel_alignment import GramSum, block_passes
    from rfray.numerics.live_taps import without_dead_taps
    from rfray.numerics.precision import full_precision

    places = {layer.name: place for place, layer in enumerate(module.network.weight_layers)}
    rows = torch.empty(len(places), len(images) ** 2, device=images.device)
    slim, forward = _slim_weights(module), without_dead_taps(module)
    passes = block_passes(len(images), blocks)
    sums: dict[str, GramSum] = {}

    def add(block: BlockPass, name: str, read: Tensor, features: Tensor) -> None:
        if name in slim:
            weight, stride = slim[name]
            features = F.conv2d(read, weight, stride=stride)
        if name not in sums:
            sums[name] = (estimator or GramSum)(len(images), images.device, images.dtype)
        sums[name].add(features, block)
        if block == passes[-1]:
            # At once: it is still in the CPU's cache, and the next layer can use its memory.
            with naming(name):
                sums.pop(name).normalised(out=rows[places[name]])

    with torch.inference_mode(), full_precision(images.device):
        for block in passes:
            with showing(module, places, partial(add, block)):
                forward(images if len(passes) == 1 else images[block.images])
    return rows


def _slim_weights(module: NetworkModule) -> dict[str, tuple[Tensor, Extent]]:
    """For 1×1 convolutions with more outputs than inputs, weights with fewer outputs; the stride.

    The Gram matrix is the same with less work. The last convolution of a bottleneck and that of its
    shortcut are such convolutions, and have more than half of a ResNet's features.
    """
    from rfray.numerics.kernel_alignment import equal_gram_weight

    def slim(layer: str) -> Tensor:
        weight = cast("nn.Conv2d", module.get_submodule(layer)).weight.detach()
        return equal_gram_weight(weight.flatten(1))[:, :, None, None]

    return {
        layer.name: (slim(layer.name), convolution.stride)
        for layer in module.network.convolutions
        if isinstance(convolution := layer.operation, Convolution)
        and (convolution.kernel_size, convolution.padding, convolution.groups) == (1, 0, 1)
        and convolution.out_channels > convolution.in_channels
    }
