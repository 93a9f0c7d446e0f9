"""Puts a network's channels into the order of another network's, by weight matching."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from rfray.models.geometry import LiveTaps, live_taps
from rfray.models.module import NetworkModule
from rfray.models.permutations import channel_groups, permuted_state
from rfray.numerics.weight_matching import weight_matching


def aligned(
    module: NetworkModule,
    image_size: int,
    first: Mapping[str, Tensor],
    second: Mapping[str, Tensor],
) -> dict[str, Tensor]:
    """`second` with its channels permuted so that its weights are nearest to those of `first`.

    It computes the same as before. Trained parameters are matched: weights, biases and the factors
    of norms. The statistics of norms are permuted with them. Dead taps are left out.

    Args:
        module: A network with both networks' description; its own weights do not matter.
        image_size: Height and width of the images, pixels.
        first: Parameters and buffers by name.
        second: Those of the network that is permuted; they are not changed.
    """
    groups = channel_groups(module.network, image_size)
    trained = [name for name, _ in module.named_parameters()]
    live = live_taps(module.network, image_size)
    one, other = (
        {name: _without_dead(live, name, state[name]) for name in trained}
        for state in (first, second)
    )
    return permuted_state(second, groups, weight_matching(one, other, groups))


def _without_dead(live: Mapping[str, LiveTaps], name: str, tensor: Tensor) -> NDArray[np.float32]:
    """A parameter as an array; only the live taps of a convolution's kernels."""
    layer, _, kind = name.rpartition(".")
    array: NDArray[np.float32] = tensor.cpu().numpy()
    if kind != "weight" or layer not in live:
        return array
    down, across = live[layer]
    return array[:, :, list(down)][:, :, :, list(across)]
