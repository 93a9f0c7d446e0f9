"""The torch modules of operations for which PyTorch has none."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Sum(nn.Module):
    """Sum of its two inputs."""

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        """`left + right`."""
        return left + right


class Times(nn.Module):
    """Product of its two inputs."""

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        """`left * right`."""
        return left * right


class Concatenation(nn.Module):
    """Its inputs' channels one behind the other."""

    def forward(self, *maps: Tensor) -> Tensor:
        """(images, all channels, …) of (images, channels, …)."""
        return torch.cat(maps, dim=1)


class WidePaddedMaxPool(nn.MaxPool2d):
    """A max-pool that may pad with more than half of its kernel, as a dilated one must."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 (nn.MaxPool2d's own name for it)
        """(images, channels, units down, units across) of (images, channels, height, width)."""
        padding = self.padding
        down, across = (padding, padding) if isinstance(padding, int) else padding
        # With what no max-pool ever takes.
        padded = F.pad(input, (across, across, down, down), value=-torch.inf)
        return F.max_pool2d(padded, self.kernel_size, self.stride, 0, self.dilation)


class Chunk(nn.Module):
    """One of some parts of a map's channels."""

    def __init__(self, index: int, chunks: int) -> None:
        super().__init__()
        self.index = index
        self.chunks = chunks

    def forward(self, maps: Tensor) -> Tensor:
        """(images, channels / chunks, height, width) of (images, channels, height, width)."""
        part: Tensor = maps.chunk(self.chunks, dim=1)[self.index]
        return part


class Slice(nn.Module):
    """Some neighbouring channels of a map."""

    def __init__(self, start: int, stop: int) -> None:
        super().__init__()
        self.start = start
        self.stop = stop

    def forward(self, maps: Tensor) -> Tensor:
        """(images, stop - start or fewer, height, width) of (images, channels, height, width)."""
        return maps[:, self.start : self.stop]


class RescaleModule(nn.Module):
    """A fixed factor and a fixed offset."""

    def __init__(self, factor: float, offset: float) -> None:
        super().__init__()
        self.factor = factor
        self.offset = offset

    def forward(self, numbers: Tensor) -> Tensor:
        """`numbers` times the factor, plus the offset; without what would change nothing."""
        scaled = numbers if self.factor == 1 else numbers * self.factor
        return scaled if self.offset == 0 else scaled + self.offset


class Shuffle(nn.Module):
    """The first channel of each group, the second of each group, and so on."""

    def __init__(self, groups: int) -> None:
        super().__init__()
        self.groups = groups

    def forward(self, maps: Tensor) -> Tensor:
        """`maps` (images, channels, height, width) in another order of channels."""
        groups: Tensor = maps.unflatten(1, (self.groups, -1))
        return groups.transpose(1, 2).flatten(1, 2)


class ScaleModule(nn.Module):
    """A trainable factor a channel."""

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
