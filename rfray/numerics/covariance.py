"""Covariance of features over batches, and how many of its directions hold most of the variance.

The count is the intrinsic dimension of Shenk et al. (*Feature Space Saturation during Training*,
2020) and Richter et al. (*Should You Go Deeper? Optimizing Convolutional Neural Network
Architectures without Training by Receptive Field Analysis*, 2021).
"""

from __future__ import annotations

import torch
from torch import Tensor

from rfray.numerics.errors import NumericsError

_SLICE_NUMBERS = 4_000_000
"""Numbers that are made float64 at a time: 32 MB."""

_MOST_MISSING = 0.02
"""delve takes one direction more where the others fall short by more than this."""


class Covariance:
    """Of all points given so far, whatever batches they came in, in float64.

    Batches are merged by the update of Chan, Golub & LeVeque (*Updating Formulae and a Pairwise
    Algorithm for Computing Sample Variances*, 1979) for cross products: nothing cancels, as it does
    in the difference of a mean square and a squared mean.
    """

    def __init__(self) -> None:
        self.count = 0
        """Points so far."""
        self.mean = torch.zeros(())
        """(features,) once there are points."""
        self._products = torch.zeros(())

    def add(self, points: Tensor) -> None:
        """Take in (points, features), any floating type."""
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
        self._products.addmm_(centred.T, centred)
        self._products.addr_(apart, apart, alpha=self.count * share)
        self.mean = self.mean + apart * share
        self.count = count

    @property
    def matrix(self) -> Tensor:
        """(features, features): mean product of distances from the mean.

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


def directions_reaching(values: Tensor, share: float) -> int:
    """The smallest number of directions that together explain `share` of the variance or more.

    Args:
        values: Variances, largest first, not all 0.
        share: Above 0, at most 1.
    """
    explained = values.cumsum(0) / values.sum()
    # Rounding must not ask for directions without any variance.
    short = int((explained < share - 1e-12).sum())
    return min(short + 1, int((values > 0).sum()))


def delve_directions(values: Tensor, share: float) -> int:
    """How many directions the library delve 0.1.50 counts: mostly one fewer than reach `share`.

    It counts those up to which less than `share` is explained, takes one more if `share` is missed
    by more than 0.02, and never says 0.

    Args:
        values: Variances, largest first, not all 0.
        share: Above 0, at most 1.
    """
    explained = values.cumsum(0) / values.sum()
    short = int((explained < share).sum())
    if short == 0:
        return 1
    return short + int(share - float(explained[short - 1]) > _MOST_MISSING)
