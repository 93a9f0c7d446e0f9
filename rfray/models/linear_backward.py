"""A network whose backward pass is linear, as the study's importance measure wants it.

Every ReLU passes its gradient unchanged and every max-pool spreads its gradient like an average
pool of the same window, padding counted; the forward pass is untouched.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import torch.nn.functional as F
from torch import Tensor, nn

from rfray.models import network as layers
from rfray.models.module import BUILDERS, Builder


def _with_gradient_of(value: Tensor, stand_in: Tensor) -> Tensor:
    """`value` going forward, the gradient of `stand_in` going backward."""
    return value.detach() + (stand_in - stand_in.detach())


class StraightThroughRelu(nn.Module):
    """ReLU that passes its gradient unchanged."""

    def forward(self, maps: Tensor) -> Tensor:
        """ReLU of `maps`."""
        return _with_gradient_of(F.relu(maps), maps)


class AverageBackwardMaxPool(nn.Module):
    """Max-pool whose gradient is that of an average pool of the same window, padding counted."""

    def __init__(self, pool: layers.MaxPool) -> None:
        super().__init__()
        self.pool = pool

    def forward(self, maps: Tensor) -> Tensor:
        """Max-pool of `maps`."""
        pool = self.pool
        window = (pool.kernel_size, pool.stride, pool.padding)
        return _with_gradient_of(F.max_pool2d(maps, *window), F.avg_pool2d(maps, *window))


LINEAR_BACKWARD_BUILDERS: Mapping[type, Builder] = MappingProxyType(
    {
        **BUILDERS,
        layers.Relu: lambda _: StraightThroughRelu(),
        layers.MaxPool: AverageBackwardMaxPool,
    }
)
"""The builders of `rfray.models.module.build` for a network with a linear backward pass."""
