"""A network whose backward pass is linear, as the study's importance measure wants it.

Every ReLU and what is like it (not the sigmoid of a gate) passes its gradient unchanged, and every
max-pool spreads its gradient like an average pool of the same window, padding counted; the forward
pass is untouched.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import torch.nn.functional as F
from torch import Tensor, nn

from rfray.models.module import Builder
from rfray.models.operations import (
    Elu,
    Gelu,
    Hardswish,
    LeakyRelu,
    MaxPool,
    Operation,
    Relu,
    Relu6,
    Silu,
    along,
)


def _with_gradient_of(value: Tensor, stand_in: Tensor) -> Tensor:
    """`value` going forward, the gradient of `stand_in` going backward."""
    return value.detach() + (stand_in - stand_in.detach())


class StraightThrough(nn.Module):
    """An activation that passes its gradient unchanged."""

    def __init__(self, operation: Operation) -> None:
        super().__init__()
        self.activation = operation.module()

    def forward(self, maps: Tensor) -> Tensor:
        """The activation of `maps`."""
        return _with_gradient_of(self.activation(maps), maps)


class AverageBackwardMaxPool(nn.Module):
    """Max-pool whose gradient is that of an average pool of the same window, padding counted."""

    def __init__(self, pool: MaxPool) -> None:
        super().__init__()
        self.pool = pool
        self.own = pool.module()

    def forward(self, maps: Tensor) -> Tensor:
        """Max-pool of `maps`."""
        return _with_gradient_of(self.own(maps), self._average(maps))

    def _average(self, maps: Tensor) -> Tensor:
        pool = self.pool
        if pool.dilation == 1:
            return F.avg_pool2d(maps, pool.kernel_size, pool.stride, pool.padding, pool.ceil_mode)
        # No average pool of PyTorch's is dilated; a convolution of each channel is one.
        channels = maps.shape[1]
        taps = along(pool.kernel_size, 0), along(pool.kernel_size, 1)
        kernel = maps.new_full((channels, 1, *taps), 1 / (taps[0] * taps[1]))
        return F.conv2d(
            maps, kernel, None, pool.stride, pool.padding, pool.dilation, groups=channels
        )


LINEAR_BACKWARD: Mapping[type, Builder] = MappingProxyType(
    {
        **dict.fromkeys((Relu, Relu6, LeakyRelu, Elu, Silu, Hardswish, Gelu), StraightThrough),
        MaxPool: AverageBackwardMaxPool,
    }
)
"""The stand-ins of `rfray.models.module.build` for a network with a linear backward pass."""
