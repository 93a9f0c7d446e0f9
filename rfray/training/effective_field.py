"""Squared gradients of a network's central units on real images, in small batches."""

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

    For each image one forward pass up to the last of the layers, and one backward pass for each
    layer. Computed in the dtype of the images, squared and summed in float64.

    Args:
        module: In eval mode; afterwards no parameter requires a gradient.
        layers: Names of layers whose outputs are maps.
        images: Normalised images (images, 3, height, width).
        micro_batch: Images whose graph is in memory at a time.
        done: Called with the number of images that are done.
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
    """The maps of some layers, all before the layer with index `stop`."""
    kept: dict[str, Tensor] = {}
    # Copies, because the next layer may write over its input.
    with showing(module, layers, lambda name, _read, maps: kept.update({name: maps.clone()})):
        module.advance({INPUT: images}, 0, stop)
    return kept
