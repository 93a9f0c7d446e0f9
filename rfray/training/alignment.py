"""A network's channels brought into the order of another's, by weight matching."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from rfray.models.module import NetworkModule
from rfray.models.permutations import channel_groups, permuted_state
from rfray.numerics.weight_matching import weight_matching


def aligned(
    module: NetworkModule,
    image_size: int,
    first: Mapping[str, Tensor],
    second: Mapping[str, Tensor],
) -> dict[str, Tensor]:
    """`second` with its channels where they lie nearest to those of `first`: the same function.

    What is trained is matched: weights, biases and the factors of norms, not their statistics,
    which go along.

    Args:
        module: Of both networks' description; its own weights do not matter.
        image_size: Height and width of the images, pixels.
        first: Parameters and buffers by name.
        second: Those of the network that is permuted; left as they are.
    """
    groups = channel_groups(module.network, image_size)
    trained = [name for name, _ in module.named_parameters()]
    orders = weight_matching(
        {name: first[name].cpu().numpy() for name in trained},
        {name: second[name].cpu().numpy() for name in trained},
        groups,
    )
    return permuted_state(second, groups, orders)
