"""Features of a network's layers over many images, of which few are in memory at a time.

What several stages ask of layers: their maps pass by a batch at a time, and whoever looks keeps of
each what it needs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from rfray.data.dataset import DatasetFacts
from rfray.data.device import normalised
from rfray.models.module import NetworkModule
from rfray.numerics.live_taps import without_dead_taps
from rfray.numerics.precision import full_precision
from rfray.terminal.telling import counted

BATCH = 100
"""Images that pass through the network together."""

_MAP = 4
"""Dimensions of a map; a vector of features has two."""

See = Callable[[str, Tensor], None]
"""Takes a layer's name and its features of the next images, which may be overwritten later:
(images, channels, height, width) of a map, (images, features) of a vector."""


def show_features(
    module: NetworkModule, images: Tensor, facts: DatasetFacts, layers: Sequence[str], see: See
) -> None:
    """Pass images through a network in eval mode, and show the features of some layers.

    Args:
        module: Left in eval mode.
        images: uint8 (images, 3, height, width) on the module's device, as a data set holds them.
        facts: Whose mean and deviation to normalise by.
        layers: Names of layers.
        see: Called for each batch with every one of them, in the order of the network.
    """
    module.eval()
    hooks = [
        module.get_submodule(name).register_forward_hook(
            lambda _layer, _inputs, features, name=name: see(name, features)
        )
        for name in layers
    ]
    forward = without_dead_taps(module)
    batches = images.split(BATCH)
    try:
        with torch.inference_mode(), full_precision(images.device):
            for batch in counted(batches, len(batches), "passing images through", "batches"):
                forward(normalised(batch, facts))
    finally:
        for hook in hooks:
            hook.remove()


def pooled_features(
    module: NetworkModule, images: Tensor, facts: DatasetFacts, layers: Sequence[str]
) -> dict[str, Tensor]:
    """Features of some layers averaged over places, by layer: (images, channels) float64.

    Args:
        module: Left in eval mode.
        images: uint8 (images, 3, height, width) on the module's device.
        facts: Whose mean and deviation to normalise by.
        layers: Names of layers.
    """
    found: dict[str, list[Tensor]] = {name: [] for name in layers}
    show_features(
        module, images, facts, layers, lambda name, one: found[name].append(place_mean(one))
    )
    # What is made in inference mode could not enter any later computation of gradients.
    return {name: torch.cat(parts).clone() for name, parts in found.items()}


def place_mean(features: Tensor) -> Tensor:
    """The mean of each channel over the places of a map, (images, channels) float64.

    Args:
        features: (images, channels, height, width), or (images, features), which stay as they are.
    """
    if features.dim() == _MAP:
        return features.mean(dim=(2, 3), dtype=torch.float64)
    return features.double()


def each_place(features: Tensor) -> Tensor:
    """Each place of a map as a point of its own, (images · height · width, channels).

    Args:
        features: (images, channels, height, width), or (images, features), which stay as they are.
    """
    return features.movedim(1, -1).flatten(0, -2)
