"""Moments of batches are those of all values at once."""

from __future__ import annotations

import pytest
import torch

from rfray.numerics.moments import Moments

MAPS = torch.randn(12, 3, 4, 5, generator=torch.Generator().manual_seed(0)) + 1000.0
MAPS[5:, 1] *= 7


@pytest.mark.parametrize("sizes", [[12], [1] * 12, [5, 5, 2], [1, 11]])
def test_however_the_images_are_split(sizes):
    moments = Moments()
    for batch in MAPS.split(sizes):
        moments.add(batch)
    values = MAPS.double().transpose(0, 1).flatten(1)
    assert moments.count == 12 * 4 * 5
    assert moments.mean.dtype == torch.float64
    torch.testing.assert_close(moments.mean, values.mean(1), rtol=1e-13, atol=0)
    torch.testing.assert_close(moments.variance, values.var(1, correction=0), rtol=1e-12, atol=0)
    torch.testing.assert_close(moments.unbiased_variance, values.var(1), rtol=1e-12, atol=0)


def test_a_constant_has_no_variance():
    moments = Moments()
    for _ in range(3):
        moments.add(torch.full((2, 1, 1, 1), 0.1))
    assert moments.variance.tolist() == [0]
