"""Batch norms with the statistics of the whole batch, which is spread over several processes."""

from collections.abc import Mapping
from typing import Any, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from rfray.models.module import Builder
from rfray.models.operations import BatchNorm, VectorBatchNorm


class SynchronisedBatchNorm(_BatchNorm):
    """`torch.nn.SyncBatchNorm` for CPUs; PyTorch's works on GPUs only.

    In training mode mean and variance are those over all images of all processes, and derivatives
    pass through them to all processes. The running variance is the unbiased one, as usual.
    """

    def forward(self, maps: Tensor) -> Tensor:
        """Normalised maps (images, channels, …), of the same type.

        Raises:
            ValueError: All processes together have only one value per channel.
        """
        if not self.training:
            return super().forward(maps)
        wide = maps if maps.dtype == torch.float64 else maps.float()
        channels = maps.shape[1]
        count = wide.new_full((1,), maps.numel() / channels)
        sums = _summed(torch.cat([_over_places(wide), count]))
        mean, total = sums[:channels] / sums[channels], sums[channels].detach()
        if float(total) <= 1:
            raise ValueError("expected more than one value per channel in training")
        centred = wide - _beside(mean, maps)
        variance = _summed(_over_places(centred.square())) / total
        self._remember(mean.detach(), variance.detach() * total / (total - 1))
        factor = self.weight * torch.rsqrt(variance + self.eps)
        return (centred * _beside(factor, maps) + _beside(self.bias, maps)).to(maps.dtype)

    def _check_input_dim(self, input: Tensor) -> None:  # noqa: A002 (as PyTorch names it)
        """Accepts maps and vectors."""

    def _remember(self, mean: Tensor, variance: Tensor) -> None:
        with torch.no_grad():
            share = cast(float, self.momentum)
            cast("Tensor", self.num_batches_tracked).add_(1)
            cast("Tensor", self.running_mean).lerp_(mean, share)
            cast("Tensor", self.running_var).lerp_(variance, share)


class _Sum(torch.autograd.Function):
    """The sum over all processes; its derivative is also summed over them."""

    @staticmethod
    def forward(ctx: Any, part: Tensor) -> Tensor:
        del ctx
        return _added_up(part)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        del ctx
        return _added_up(gradients[0])


def _added_up(part: Tensor) -> Tensor:
    total = part.clone(memory_format=torch.contiguous_format)
    dist.all_reduce(total)
    return total


def _summed(part: Tensor) -> Tensor:
    return cast(Tensor, _Sum.apply(part))


def _over_places(maps: Tensor) -> Tensor:
    """The sum of each channel (channels,)."""
    return maps.sum([0, *range(2, maps.dim())])


def _beside(values: Tensor, maps: Tensor) -> Tensor:
    """One value per channel, in a shape that can be combined with maps."""
    return values.view(1, -1, *[1] * (maps.dim() - 2))


def _maker(norm: type[_BatchNorm]) -> Builder:
    return lambda operation: norm(operation.channels, operation.eps, operation.momentum)


SYNCHRONISED: Mapping[str, Mapping[type, Builder]] = {
    kind: dict.fromkeys((BatchNorm, VectorBatchNorm), _maker(norm))
    for kind, norm in (("cpu", SynchronisedBatchNorm), ("cuda", nn.SyncBatchNorm))
}
"""The replacements of batch norms, by the kind of device; on GPUs PyTorch's own."""
