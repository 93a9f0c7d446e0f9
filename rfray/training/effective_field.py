"""Squared gradients of a network's central units on real images, some images at a time."""

from __future__ import annotations

from collections.abc import Callable, Collection

from torch import Tensor

from rfray.models.module import NetworkModule, showing
from rfray.models.network import INPUT
from rfray.numerics.effective_field import SquaredGradient, central_gradient


def squared_gradients(
    module: NetworkModule,
    layers: Collection[str],
    images: Tensor,
    micro_batch: int,
    done: Callable[[int], None],
) -> dict[str, SquaredGradient]:
    """By layer, the squared gradient of its central unit with respect to the pixels.

    One forward pass an image, up to the last of the layers, and one backward pass a layer. Computed
    in the dtype of the images, squared and summed in float64.

    Args:
        module: In eval mode; it is left so that no parameter requires a gradient.
        layers: Names of layers that make maps.
        images: Normalised images (images, 3, height, width).
        micro_batch: Images of which a graph is held at a time.
        done: Told how many images are done.
    """
    module.requires_grad_(requires_grad=False)
    names = [layer.name for layer in module.network]
    ordered = [name for name in names if name in set(layers)]
    found = {name: SquaredGradient() for name in ordered}
    for start in range(0, len(images), micro_batch):
        batch = images[start : start + micro_batch].detach().requires_grad_()
        maps = _maps(module, ordered, batch, names.index(ordered[-1]) + 1)
        for name in ordered:
            found[name].add(central_gradient(maps[name], batch))
        done(start + len(batch))
    return found


def _maps(
    module: NetworkModule, layers: Collection[str], images: Tensor, stop: int
) -> dict[str, Tensor]:
    """The maps of some layers, of which the last stands just before layer `stop`."""
    kept: dict[str, Tensor] = {}
    with showing(module, layers, lambda name, _read, maps: kept.update({name: maps})):
        module.advance({INPUT: images}, 0, stop)
    return kept
