"""Features of a network's layers over many images, with few of them in memory at a time.

Several stages need this: they are given the features of each batch, and keep what they need.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from rfray.data.dataset import DatasetFacts
from rfray.data.device import normalised
from rfray.models.module import NetworkModule, showing
from rfray.numerics.live_taps import without_dead_taps
from rfray.numerics.precision import full_precision
from rfray.terminal.telling import counted

BATCH = 100
"""Images that pass through the network together."""

_MAP = 4
"""Dimensions of a map; a vector of features has two."""

See = Callable[[str, Tensor], None]
"""Takes a layer's name and its features for the next images, which may be overwritten later:
(images, channels, height, width) for a map, (images, features) for a vector."""


def show_features(
    module: NetworkModule, images: Tensor, facts: DatasetFacts, layers: Sequence[str], see: See
) -> None:
    """Pass images through a network in eval mode, and give the features of some layers to `see`.

    Args:
        module: In eval mode afterwards.
        images: uint8 (images, 3, height, width) on the module's device, as in a data set.
        facts: The mean and deviation for normalisation.
        layers: Names of layers.
        see: Called for each batch and each of these layers, in the order of the network.
    """
    module.eval()
    forward = without_dead_taps(module)
    batches = images.split(BATCH)
    with (
        torch.inference_mode(),
        full_precision(images.device),
        showing(module, layers, lambda name, _read, features: see(name, features)),
    ):
        for batch in counted(batches, len(batches), "passing images through", "batches"):
            forward(normalised(batch, facts))


def pooled_features(
    module: NetworkModule, images: Tensor, facts: DatasetFacts, layers: Sequence[str]
) -> dict[str, Tensor]:
    """Features of some layers averaged over places, by layer: (images, channels) float64.

    Args:
        module: In eval mode afterwards.
        images: uint8 (images, 3, height, width) on the module's device.
        facts: The mean and deviation for normalisation.
        layers: Names of layers.
    """
    found: dict[str, list[Tensor]] = {name: [] for name in layers}
    show_features(
        module, images, facts, layers, lambda name, one: found[name].append(place_mean(one))
    )
    # Tensors made in inference mode cannot be used with gradients.
    return {name: torch.cat(parts).clone() for name, parts in found.items()}


def place_mean(features: Tensor) -> Tensor:
    """The mean of each channel over the places of a map, (images, channels) float64.

    Args:
        features: (images, channels, height, width), or (images, features), which do not change.
    """
    if features.dim() == _MAP:
        return features.mean(dim=(2, 3), dtype=torch.float64)
    return features.double()


def each_place(features: Tensor) -> Tensor:
    """Each place of a map as one point, (images · height · width, channels).

    Args:
        features: (images, channels, height, width), or (images, features), which do not change.
    """
    return features.movedim(1, -1).flatten(0, -2)
