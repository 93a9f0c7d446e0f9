"""Covariance in one pass, and the number of directions that hold most of the variance."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from rfray.numerics.errors import NumericsError
from rfray.numerics.moments import Covariance, directions_explaining, variances


def points_of_rank(rank, features=30, points=400):
    """Points that vary in `rank` directions, alike in each, far from the origin."""
    rng = np.random.default_rng(rank)
    directions = np.linalg.qr(rng.normal(size=(features, rank)))[0]
    spread = np.linalg.qr(rng.normal(size=(points, rank)))[0]
    spread = np.linalg.qr(spread - spread.mean(axis=0))[0]
    return torch.from_numpy(5.0 + spread @ directions.T)


def covariance(points, *sizes):
    found = Covariance()
    for part in points.split(list(sizes) or len(points)):
        found.add(part)
    return found


def delves_dimension(covariance, thresh):
    """`delve.metrics.compute_intrinsic_dimensionality` of delve 0.1.50, as it stands there.

    It means to take a direction more where that is missing, but cuts what it has cut already.
    """
    eig_vals, eigen_space = torch.linalg.eigh(covariance, UPLO="U")
    eig_vals, _ = eig_vals.sort(descending=True)
    eig_vals[eig_vals < 0] = 0
    percentages = eig_vals.cumsum(0) / eig_vals.sum()
    eigen_space = eigen_space[:, percentages < thresh]
    if eigen_space.shape[1] == 0:
        eigen_space = eigen_space[:, :1]
    elif thresh - (percentages[percentages < thresh][-1]) > 0.02:
        eigen_space = eigen_space[:, : eigen_space.shape[1] + 1]
    return eigen_space.shape[1]


def test_any_batches_give_the_covariance_of_all_points():
    points = points_of_rank(7) * torch.logspace(-2, 2, 30, dtype=torch.float64)
    expected = np.cov(points.T.numpy(), bias=True)
    for sizes in ((400,), (1, 399), (150, 3, 247)):
        found = covariance(points, *sizes)
        np.testing.assert_allclose(found.matrix, expected, rtol=1e-9, atol=1e-12)
        assert found.count == 400


def test_points_far_from_the_origin_lose_no_digits():
    points = points_of_rank(3)
    far = covariance(points + 1e6, 100, 300).matrix
    np.testing.assert_allclose(far, covariance(points).matrix, atol=1e-12)


@pytest.mark.parametrize("rank", [1, 2, 5, 20])
def test_as_many_directions_as_the_points_have(rank):
    values = variances(covariance(points_of_rank(rank)).matrix)
    assert directions_explaining(values, 0.99) == rank


def test_half_of_equal_variances_takes_half_of_the_directions():
    assert directions_explaining(torch.ones(10, dtype=torch.float64), 0.5) == 5
    assert directions_explaining(torch.ones(10, dtype=torch.float64), 0.51) == 6


@pytest.mark.parametrize("share", [0.5, 0.9, 0.97, 0.99, 0.9995])
def test_delve_counts_one_direction_fewer(share):
    for decay in (0.3, 0.7, 0.9, 0.97, 1.0):
        matrix = torch.diag(decay ** torch.arange(60, dtype=torch.float64))
        counted = directions_explaining(variances(matrix), share)
        assert counted == delves_dimension(matrix, share) + 1


def test_points_that_rounding_alone_tells_apart_are_constant():
    same = torch.full((50, 4), 3.0)
    assert covariance(same).constant
    assert covariance(same * (1 + 1e-7 * torch.randn(50, 4))).constant
    assert not covariance(same * (1 + 1e-3 * torch.randn(50, 4))).constant


def test_what_is_not_finite_is_refused():
    points = torch.ones(5, 2)
    points[3, 1] = torch.inf
    with pytest.raises(NumericsError, match="not finite"):
        _ = covariance(points).matrix
    with pytest.raises(NumericsError, match="no points"):
        _ = Covariance().matrix
