"""Mean and variance of each channel over batches that need not be held together."""

from __future__ import annotations

import torch
from torch import Tensor


class Moments:
    """Those of all values given so far, whatever batches they came in, in float64.

    Batches are merged by the update of Chan, Golub & LeVeque (*Updating Formulae and a Pairwise
    Algorithm for Computing Sample Variances*, 1979), which cancels nothing as sums of squares do.
    """

    def __init__(self) -> None:
        self.count = 0
        """Values of each channel."""
        self.mean = torch.zeros(())
        """(channels,) once there is a batch."""
        self._squares = torch.zeros(())

    def add(self, maps: Tensor) -> None:
        """Take in a batch of maps (images, channels, height, width), any size of images."""
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
        """(channels,): the same divided by one value fewer; takes two values or more."""
        return self._squares / (self.count - 1)
