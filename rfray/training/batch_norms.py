"""Batch-norm statistics estimated anew, and how much of the activations' variance is left.

A pruned network normalises with the running statistics of the dense one. Its maps have become
smaller, so what comes out of each norm varies less, layer upon layer: variance collapse (Jordan et
al., *REPAIR*, ICLR 2023). Statistics of the pruned network's own maps undo it without training.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import cast

import torch
from torch import Tensor, nn

from rfray.models.module import NetworkModule
from rfray.models.network import INPUT
from rfray.numerics.live_taps import LiveTaps, without_dead_taps
from rfray.numerics.moments import Moments
from rfray.terminal.telling import counted

_BATCH = 100

HELD_BYTES = 1_000_000_000
"""What the maps of all images may take between one norm and the next."""


def renew_statistics(module: NetworkModule, images: Tensor) -> None:
    """Have each batch norm's running statistics be those of its input over `images`, exactly.

    They are what one pass of all images as a single batch leaves behind in training mode with
    momentum 1: every norm sees maps that the norms before it have normalised with their statistics
    over the whole set, and keeps the mean and the unbiased variance. Such a batch may be too large
    to hold, so the norms are renewed one by one, first to last: the images pass in small batches
    up to a norm, whose moments are then exact (`Moments`), however they were split. For the next
    norm they go on from there where their maps take no more than `HELD_BYTES`, else from the last
    place where they did. Weights stay as they are; the module is left in eval mode.

    Args:
        module: Whose batch norms are renewed.
        images: Normalised (images, 3, height, width), two or more, on the module's device.
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
            fits = _bytes(before) * len(images) <= HELD_BYTES * len(before[norm.inputs[0]])
            if fits:
                held[batch] = before
        reached = place if fits else reached
        _put(module, norm.name, moments.mean, moments.variance)
        estimates[norm.name] = moments
    # Batches are normalised with the plain variance, running statistics hold the unbiased one.
    for name, moments in estimates.items():
        _put(module, name, moments.mean, moments.unbiased_variance)


def _bytes(maps: Mapping[str, Tensor]) -> int:
    return sum(one.nbytes for one in maps.values())


def _put(module: NetworkModule, name: str, mean: Tensor, variance: Tensor) -> None:
    norm = cast("nn.BatchNorm2d", module.get_submodule(name))
    cast("Tensor", norm.running_mean).copy_(mean)
    cast("Tensor", norm.running_var).copy_(variance)


def activation_variances(module: NetworkModule, images: Tensor) -> dict[str, float]:
    """Variance of what comes out of each batch norm in eval mode, first to last.

    Of each channel over images and positions (mean squared distance from the mean), then the mean
    over channels. The module is left in eval mode.

    Args:
        module: A network with batch norms.
        images: Normalised (images, 3, height, width), on the module's device.
    """
    module.eval()
    moments = {layer.name: Moments() for layer in module.network.batch_norms}
    hooks = [
        module.get_submodule(name).register_forward_hook(
            lambda _norm, _inputs, maps, one=one: one.add(maps)
        )
        for name, one in moments.items()
    ]
    forward = without_dead_taps(module)
    try:
        with torch.no_grad():
            for batch in images.split(_BATCH):
                forward(batch)
    finally:
        for hook in hooks:
            hook.remove()
    return {name: float(one.variance.mean()) for name, one in moments.items()}


def variance_ratio(after: Mapping[str, float], before: Mapping[str, float]) -> float | None:
    """Geometric mean over layers of the variance after / before; 1 where nothing has changed.

    0 if a layer is constant after. Layers that were constant before have no ratio and are left
    out; None if all are.
    """
    ratios = [after[name] / variance for name, variance in before.items() if variance > 0]
    if not ratios:
        return None
    if min(ratios) == 0:
        return 0.0
    return math.exp(math.fsum(map(math.log, ratios)) / len(ratios))
