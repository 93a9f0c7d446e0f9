"""A network whose backward pass is linear, for the study's importance measure.

ReLUs and similar activations (not the sigmoid of a gate) pass their gradient unchanged. Max-pools
spread their gradient like an average pool of the same window that counts padding. The forward pass
is not changed.
"""

from collections.abc import Mapping
from types import MappingProxyType

import torch.nn.functional as F
from torch import Tensor, nn

from rfray.models import operations as ops
from rfray.models.module import Builder


def _with_gradient_of(value: Tensor, stand_in: Tensor) -> Tensor:
    """`value` in the forward pass, the gradient of `stand_in` in the backward pass."""
    return value.detach() + (stand_in - stand_in.detach())


class StraightThrough(nn.Module):
    """An activation that passes its gradient unchanged."""

    def __init__(self, operation: ops.Operation) -> None:
        super().__init__()
        self.activation = operation.module()

    def forward(self, maps: Tensor) -> Tensor:
        """The activation of `maps`."""
        return _with_gradient_of(self.activation(maps), maps)


class AverageBackwardMaxPool(nn.Module):
    """Max-pool with the gradient of an average pool of the same window that counts padding."""

    def __init__(self, pool: ops.MaxPool) -> None:
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
        # PyTorch has no dilated average pool; a convolution of each channel computes it.
        channels = maps.shape[1]
        taps = ops.along(pool.kernel_size, 0), ops.along(pool.kernel_size, 1)
        kernel = maps.new_full((channels, 1, *taps), 1 / (taps[0] * taps[1]))
        return F.conv2d(
            maps, kernel, None, pool.stride, pool.padding, pool.dilation, groups=channels
        )


LINEAR_BACKWARD: Mapping[type, Builder] = MappingProxyType(
    {
        **dict.fromkeys(
            (ops.Relu, ops.Relu6, ops.LeakyRelu, ops.Elu, ops.Silu, ops.Hardswish, ops.Gelu),
            StraightThrough,
        ),
        ops.MaxPool: AverageBackwardMaxPool,
    }
)
"""The stand-ins for a linear backward pass, for `rfray.models.module.build`."""
