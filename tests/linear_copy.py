"""Probes that are independent of rfray's arithmetic: a network's copy along one axis.

The copy has one channel, positive weights, and sums where the network chooses or bends, so nothing
cancels: a pixel or a tap matters if and only if something other than zero comes of it. Of an
operation it knows the numbers that PyTorch's own module takes, and PyTorch computes.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from rfray.models.network import INPUT
from rfray.models.operations import (
    AdaptiveAveragePool,
    Add,
    AveragePool,
    Concatenate,
    Convolution,
    Flatten,
    GlobalAveragePool,
    MaxPool,
    Product,
    along,
)


def pixels_reached(network, axis, pixels):
    """By layer, which pixels each unit of a row (axis 1) or a column (axis 0) depends on.

    As many images as there are pixels pass through the copy, each with one pixel that is not zero.
    What a gate multiplies a map with is left out, as receptive fields leave it out.

    Returns:
        By layer, bool (pixels, units).
    """
    maps = {INPUT: torch.eye(pixels)[None, None]}
    for layer in network:
        read = [maps[name] for name in layer.inputs]
        taps = _equal_taps(layer.operation, axis).to(read[0].dtype)
        if isinstance(layer.operation, Product):
            most = max(one.shape[3] for one in read)
            computed = sum(one for one in read if one.shape[3] == most)
        else:
            computed = _computed(layer.operation, axis, read, taps)
        maps[layer.name] = (computed > 0).float()
    return {name: one[0, 0] > 0 for name, one in maps.items()}


def taps_that_matter(network, axis, pixels):
    """By convolution, whether the output of an image of ones depends on each of its taps."""
    maps = {INPUT: torch.ones(1, 1, 1, pixels, dtype=torch.float64)}
    weights = {}
    for layer in network:
        read = [maps[name] for name in layer.inputs]
        taps = _equal_taps(layer.operation, axis).to(read[0].dtype)
        if isinstance(layer.operation, Convolution):
            weights[layer.name] = taps = nn.Parameter(taps)
        if isinstance(layer.operation, Product):
            computed = read[0] * read[1]
        else:
            computed = _computed(layer.operation, axis, read, taps)
        maps[layer.name] = computed / computed.detach().max()  # products of products overflow
    gradients = torch.autograd.grad(maps[network.output].sum(), list(weights.values()))
    return {
        name: tuple((gradient[0, 0, 0] > 0).tolist())
        for name, gradient in zip(weights, gradients, strict=True)
    }


def _equal_taps(operation, axis):
    size = along(getattr(operation, "kernel_size", 1), axis)
    return torch.full((1, 1, 1, size), 1 / size)


def _computed(operation, axis, read, taps):
    if isinstance(operation, Add | Concatenate):
        return sum(read)
    (one,) = read
    if isinstance(operation, Convolution | MaxPool | AveragePool):
        stride, padding, dilation = (
            along(getattr(operation, name, 1), axis) for name in ("stride", "padding", "dilation")
        )
        if getattr(operation, "ceil_mode", False):
            return F.avg_pool2d(one, taps.shape[2:], (1, stride), (0, padding), ceil_mode=True)
        return F.conv2d(one, taps, None, (1, stride), (0, padding), (1, dilation))
    if isinstance(operation, AdaptiveAveragePool):
        return F.adaptive_avg_pool2d(one, (None, along(operation.output_size, axis)))
    if isinstance(operation, GlobalAveragePool | Flatten):
        return one.mean(dim=3, keepdim=True)
    return one
