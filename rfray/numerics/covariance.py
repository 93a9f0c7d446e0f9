"""Covariance of features over batches, and how many of its directions have most of the variance.

The count is the intrinsic dimension of Shenk et al. (*Feature Space Saturation during Training*,
2020) and Richter et al. (*Should You Go Deeper? Optimizing Convolutional Neural Network
Architectures without Training by Receptive Field Analysis*, 2021).
"""

from __future__ import annotations

import torch
from torch import Tensor

from rfray.numerics.errors import NumericsError
from rfray.numerics.products import add_product

_SLICE_NUMBERS = 4_000_000
"""Number of values that are converted to float64 at a time: 32 MB."""


class Covariance:
    """The covariance of all points of all batches so far, in float64.

    Batches are merged by the update of Chan, Golub & LeVeque (*Updating Formulae and a Pairwise
    Algorithm for Computing Sample Variances*, 1979) for cross products. It avoids the cancellation
    in the difference of a mean square and a squared mean.
    """

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
    """Variance along each principal direction, largest first, (features,); none below 0.

    Args:
        covariance: (features, features) float64, symmetric.
    """
    ascending: Tensor = torch.linalg.eigvalsh(covariance)
    return ascending.flip(0).clamp(min=0)


def directions_explaining(values: Tensor, share: float) -> int:
    """The smallest number of principal directions that explain at least `share` of the variance.

    The library delve (0.1.50) counts one fewer: the directions that explain less than `share`.

    Args:
        values: Variances, largest first, not all 0.
        share: Above 0, below 1.
    """
    explained = values.cumsum(0) / values.sum()
    return min(int((explained < share).sum()) + 1, len(values))
