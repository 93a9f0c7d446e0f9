"""The torch modules of operations for which PyTorch has no module."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Computed(nn.Module):
    """A function of maps, without parameters."""

    def __init__(self, compute: Callable[..., Tensor]) -> None:
        super().__init__()
        self.compute = compute

    def forward(self, *maps: Tensor) -> Tensor:
        """The result of the function."""
        return self.compute(*maps)


class WidePaddedMaxPool(nn.MaxPool2d):
    """A max-pool whose padding may be more than half of its kernel, as for a dilated one."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 (nn.MaxPool2d's own name for it)
        """(images, channels, units down, units across) of (images, channels, height, width)."""
        padding = self.padding
        down, across = (padding, padding) if isinstance(padding, int) else padding
        # A max-pool never takes this value.
        padded = F.pad(input, (across, across, down, down), value=-torch.inf)
        return F.max_pool2d(padded, self.kernel_size, self.stride, 0, self.dilation)


class ScaleModule(nn.Module):
    """A trainable factor per channel."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels, 1, 1))

    def forward(self, maps: Tensor) -> Tensor:
        """`maps` (images, channels, height, width), each channel times its factor."""
        return maps * self.weight


class ChannelNormModule(nn.LayerNorm):
    """Layer normalisation over the channels of each place."""

    def __init__(self, channels: int, eps: float) -> None:
        super().__init__(channels, eps)

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 (nn.LayerNorm's own name for it)
        """(images, channels, height, width) or (images, channels), normalised."""
        normalised = F.layer_norm(
            input.movedim(1, -1), self.normalized_shape, self.weight, self.bias, self.eps
        )
        return normalised.movedim(-1, 1)


class ChannelLinearModule(nn.Linear):
    """A linear layer over the channels of each place."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 (nn.Linear's own name for it)
        """(images, outputs, height, width) of (images, channels, height, width)."""
        return F.linear(input.movedim(1, -1), self.weight, self.bias).movedim(-1, 1)
