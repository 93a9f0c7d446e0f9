"""Mean, variance and covariance over batches, and how many directions have most of the variance.

Batches are merged by the update of Chan, Golub & LeVeque (*Updating Formulae and a Pairwise
Algorithm for Computing Sample Variances*, 1979). It avoids the cancellation in the difference of a
mean square and a squared mean.

The count of directions is the intrinsic dimension of Shenk et al. (*Feature Space Saturation during
Training*, 2020) and Richter et al. (*Should You Go Deeper? Optimizing Convolutional Neural Network
Architectures without Training by Receptive Field Analysis*, 2021).
"""

import torch
from torch import Tensor

from rfray.numerics.errors import NumericsError
from rfray.numerics.products import add_product

_SLICE_NUMBERS = 4_000_000
"""Number of values that are converted to float64 at a time: 32 MB."""


class Moments:
    """Mean and variance of each channel, over all values of all batches so far, in float64."""

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


class Covariance:
    """The covariance of all points of all batches so far, in float64."""

    def __init__(self) -> None:
        self.count = 0
        """Points so far."""
        self.mean = torch.zeros(())
        """(features,) once there are points."""
        self._products = torch.zeros(())

    def add(self, points: Tensor) -> None:
        """Add points (points, features), of any floating type."""
        for some in points.detach().split(max(1, _SLICE_NUMBERS // points.shape[1])):
            self._merge(some.double())

    def _merge(self, points: Tensor) -> None:
        mean = points.mean(0)
        centred = points - mean
        if self.count == 0:
            self.mean = torch.zeros_like(mean)
            self._products = mean.new_zeros(len(mean), len(mean))
        count = self.count + len(points)
        share = len(points) / count
        apart = mean - self.mean
        add_product(self._products, centred.T, centred)
        self._products.addr_(apart, apart, alpha=self.count * share)
        self.mean = self.mean + apart * share
        self.count = count

    @property
    def matrix(self) -> Tensor:
        """(features, features): mean product of differences from the mean.

        Raises:
            NumericsError: There are no points, or a feature is not finite.
        """
        if self.count == 0:
            raise NumericsError("there are no points")
        if not bool(self._products.isfinite().all()):
            raise NumericsError("a feature is not finite")
        return self._products / self.count

    @property
    def constant(self) -> bool:
        """Whether the points differ by no more than the rounding of float32 features."""
        rounding = (10 * torch.finfo(torch.float32).eps) ** 2
        return bool(self.matrix.trace() <= rounding * self.mean.square().sum())


def variances(covariance: Tensor) -> Tensor:
    """Variance along each principal direction, largest first, (features,) float64; none below 0."""
    ascending: Tensor = torch.linalg.eigvalsh(covariance)
    return ascending.flip(0).clamp(min=0)


def directions_explaining(values: Tensor, share: float) -> int:
    """The smallest number of principal directions that explain at least `share` of the variance.

    0 < share < 1, and the variances, largest first, are not all 0. The library delve (0.1.50)
    counts one fewer: the directions that explain less than `share`.
    """
    explained = values.cumsum(0) / values.sum()
    return min(int((explained < share).sum()) + 1, len(values))
