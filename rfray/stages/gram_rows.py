"""What cka computes of one network: the Gram matrix of every layer, within a budget of memory."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, cast

from rfray.models.network import Network
from rfray.models.operations import Convolution, Extent
from rfray.models.row_schedule import map_heights, peak_numbers, shortest_strip, tallest_strip

if TYPE_CHECKING:
    from torch import Tensor, nn

    from rfray.models.module import NetworkModule
    from rfray.numerics.kernel_alignment import BlockPass, GramSum

_NUMBER_BYTES = 4
_MAP = 4
"""Dimensions of a map; behind the global pool there are two, and one row."""


@dataclass(frozen=True)
class MapPlan:
    """How a network's maps are kept small.

    Attributes:
        strip: Rows of the images that are taken at a time.
        blocks: Blocks into which the images are cut; 1 where all of them go through at once.
    """

    strip: int
    blocks: int

    @property
    def forward_passes(self) -> int:
        """How often each image goes through the network."""
        return max(1, self.blocks - 1)


def map_plan(network: Network, image_size: int, images: int, budget: int) -> MapPlan:
    """The plan with the fewest forward passes, then the tallest strips, within a budget.

    Rows of an image alone bound the memory at no cost; where single rows of all images are still
    too much, pairs of blocks of images go through one after the other.

    Args:
        network: The network.
        image_size: Height of the square images.
        images: How many images.
        budget: Bytes for float32 maps. Two images, row by row if the network allows it, are taken
            whatever they need.
    """
    shortest = shortest_strip(network, image_size)
    least = _NUMBER_BYTES * peak_numbers(network, image_size, shortest)
    for blocks in (1, *range(3, images + 1)):
        together = images if blocks == 1 else 2 * math.ceil(images / blocks) + 1
        if least * together <= budget:
            numbers = budget // (_NUMBER_BYTES * together)
            return MapPlan(tallest_strip(network, image_size, numbers), blocks)
    return MapPlan(shortest, images)


def gram_rows(
    module: NetworkModule, images: Tensor, plan: MapPlan, estimator: type[GramSum] | None = None
) -> Tensor:
    """Normalised Gram matrices of all convolutions and linear layers of one network.

    Args:
        module: In eval mode.
        images: (N, 3, height, height), float32 or float64 as the module is, on its device.
        plan: How much is computed at once; it changes the result by rounding alone.
        estimator: What sums a layer's Gram matrix; `GramSum` by default.

    Returns:
        (layers, numbers) float32, as `rfray.numerics.kernel_alignment.alignment` takes them.

    Raises:
        NumericsError: A feature is not finite, named by its layer.
    """
    import torch

    from rfray.models.row_pass import forward_by_rows
    from rfray.numerics.kernel_alignment import GramSum, block_passes
    from rfray.numerics.precision import full_precision

    gathered = _GramRows(module, images, plan, estimator or GramSum)
    with torch.inference_mode(), full_precision(images.device):
        for block in block_passes(len(images), plan.blocks):
            taken = images if plan.blocks == 1 else images[block.images]
            forward_by_rows(module, taken, plan.strip, partial(gathered.add, block=block))
    return gathered.rows


class _GramRows:
    """The normalised Gram matrices of a network's layers, made while its features come in."""

    def __init__(
        self, module: NetworkModule, images: Tensor, plan: MapPlan, estimator: type[GramSum]
    ) -> None:
        import torch

        from rfray.numerics.kernel_alignment import block_passes

        layers = [layer.name for layer in module.network.weight_layers]
        heights = map_heights(module.network, images.shape[2])
        passes = len(block_passes(len(images), plan.blocks))
        self._sum = partial(estimator, len(images), images.device, plan.blocks, images.dtype)
        self.rows = torch.empty(len(layers), self._sum().length, device=images.device)
        self._places = dict(zip(layers, self.rows, strict=True))
        self._to_come = {name: passes * heights[name] for name in layers}
        self._sums: dict[str, GramSum] = {}
        self._slim = _slim_weights(module)

    def add(self, name: str, read: Tensor, rows: Tensor, block: BlockPass) -> None:
        """Add some rows of a layer's map, and end its sum with the last ones."""
        import torch.nn.functional as F

        if name not in self._places:
            return
        if name in self._slim:
            weight, stride = self._slim[name]
            features = F.conv2d(read, weight, stride=stride)
        else:
            features = rows
        gram = self._sums.get(name) or self._sums.setdefault(name, self._sum())
        gram.add(features, block)
        self._to_come[name] -= rows.shape[2] if rows.dim() == _MAP else 1
        if self._to_come[name] == 0:
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
