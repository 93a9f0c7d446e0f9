"""New estimates of batch-norm statistics, and how much of the activations' variance is left.

A pruned network normalises with the running statistics of the dense one. Its maps have smaller
values, so the output of each norm varies less, and still less in each later layer: variance
collapse (Jordan et al., *REPAIR*, ICLR 2023). The statistics of the pruned network's own maps
correct this without training.
"""

import math
from collections.abc import Mapping
from typing import cast

import torch
from torch import Tensor, nn

from rfray.models.module import NetworkModule, showing
from rfray.models.network import INPUT
from rfray.numerics.live_taps import LiveTaps, without_dead_taps
from rfray.numerics.moments import Moments
from rfray.terminal.telling import counted

_BATCH = 100

HELD_BYTES = 1_000_000_000
"""Memory for the maps of all images between one norm and the next."""


def renew_statistics(module: NetworkModule, images: Tensor) -> None:
    """Set each batch norm's running statistics to those of its input over `images`, exactly.

    They are the same as after one pass of all images as a single batch, in training mode with
    momentum 1: the input of every norm comes from norms that use their statistics over all images,
    and the norm keeps the mean and the unbiased variance. Such a batch may need too much memory, so
    the norms are renewed one by one, first to last. Small batches of images pass up to a norm, and
    its moments are exact for any split (`Moments`). For the next norm they continue from there if
    their maps need at most `HELD_BYTES`, else from the last position where they did. Weights do not
    change; the module is in eval mode afterwards.

    Args:
        module: The network.
        images: Normalised (images, 3, height, width), at least two, on the module's device.
    """
    module.eval()
    estimates: dict[str, Moments] = {}
    held = [{INPUT: batch} for batch in images.split(_BATCH)]
    reached = 0
    norms = module.network.batch_norms
    for norm in counted(norms, len(norms), "renewing statistics", "batch norms"):
        place, moments = module.network.layers.index(norm), Moments()
        fits = False
        for batch, maps in enumerate(held):
            with torch.no_grad(), LiveTaps():
                before = module.advance(maps, reached, place)
            moments.add(before[norm.inputs[0]])
            held_bytes = sum(one.nbytes for one in before.values())
            fits = held_bytes * len(images) <= HELD_BYTES * len(before[norm.inputs[0]])
            if fits:
                held[batch] = before
        reached = place if fits else reached
        _put(module, norm.name, moments.mean, moments.variance)
        estimates[norm.name] = moments
    # Batches are normalised with the biased variance, running statistics are the unbiased one.
    for name, moments in estimates.items():
        _put(module, name, moments.mean, moments.unbiased_variance)


def _put(module: NetworkModule, name: str, mean: Tensor, variance: Tensor) -> None:
    norm = cast("nn.BatchNorm2d", module.get_submodule(name))
    cast("Tensor", norm.running_mean).copy_(mean)
    cast("Tensor", norm.running_var).copy_(variance)


def activation_variances(module: NetworkModule, images: Tensor) -> dict[str, float]:
    """Variance of the output of each batch norm in eval mode, first to last.

    The variance of each channel over images and positions (mean squared distance from the mean),
    then the mean over channels. The module is in eval mode afterwards.

    Args:
        module: A network with batch norms.
        images: Normalised (images, 3, height, width), on the module's device.
    """
    module.eval()
    moments = {layer.name: Moments() for layer in module.network.batch_norms}
    forward = without_dead_taps(module)
    with torch.no_grad(), showing(module, moments, lambda name, _read, out: moments[name].add(out)):
        for batch in images.split(_BATCH):
            forward(batch)
    return {name: float(one.variance.mean()) for name, one in moments.items()}


def variance_ratio(after: Mapping[str, float], before: Mapping[str, float]) -> float | None:
    """Geometric mean over layers of the variance after / before; 1 if nothing has changed.

    0 if a layer is constant after. Layers that were constant before have no ratio and are left
    out; None if all were.
    """
    ratios = [after[name] / variance for name, variance in before.items() if variance > 0]
    if not ratios:
        return None
    if min(ratios) == 0:
        return 0.0
    return math.exp(math.fsum(map(math.log, ratios)) / len(ratios))
