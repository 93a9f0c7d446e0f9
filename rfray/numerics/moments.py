"""Mean and variance of each channel over batches."""

from __future__ import annotations

import torch
from torch import Tensor


class Moments:
    """Mean and variance of all values of all batches so far, in float64.

    Batches are merged by the update of Chan, Golub & LeVeque (*Updating Formulae and a Pairwise
    Algorithm for Computing Sample Variances*, 1979), which avoids the cancellation in sums of
    squares.
    """

    def __init__(self) -> None:
        self.count = 0
        """Number of values of each channel."""
        self.mean = torch.zeros(())
        """(channels,) once there is a batch."""
        self._squares = torch.zeros(())

    def add(self, maps: Tensor) -> None:
        """Add a batch of maps (images, channels, height, width) of any size."""
        values = maps.detach().double().movedim(1, 0).flatten(1)
        squares, mean = torch.var_mean(values, dim=1, correction=0)
        count = self.count + values.shape[1]
        share = values.shape[1] / count
        self._squares = self._squares.to(mean) + squares * values.shape[1]
        self._squares += (mean - self.mean).square() * (self.count * share)
        self.mean = self.mean.to(mean) + (mean - self.mean) * share
        self.count = count

    @property
    def variance(self) -> Tensor:
        """(channels,): mean squared distance from the mean, over all values."""
        return self._squares / self.count

    @property
    def unbiased_variance(self) -> Tensor:
        """(channels,): the same with n − 1; needs at least two values."""
        return self._squares / (self.count - 1)
