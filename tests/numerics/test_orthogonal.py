from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from matrices import generator

from rfray.numerics.orthogonal import orthogonalise, orthonormalise


def draw(rows, columns, seed, dtype=torch.float64):
    return torch.randn(rows, columns, generator=generator(seed), dtype=dtype)


@settings(deadline=None, max_examples=50, derandomize=True)
@given(
    held=st.integers(0, 12),
    width=st.integers(1, 5),
    recent=st.integers(0, 12),
    seed=st.integers(0, 99),
    dtype=st.sampled_from([torch.float32, torch.float64]),
)
def test_a_block_is_split_into_its_part_in_the_basis_and_an_orthonormal_rest(
    held, width, recent, seed, dtype
):
    basis = torch.linalg.qr(draw(40, held, seed, dtype))[0].T
    block = draw(width, 40, seed + 100, dtype)
    split = orthogonalise(block.clone(), basis, min(recent, held), negligible=0.0)
    together = torch.cat([basis, split.rows])
    rounding = 100 * torch.finfo(dtype).eps
    torch.testing.assert_close(
        together @ together.T, torch.eye(held + width, dtype=dtype), atol=rounding, rtol=0
    )
    torch.testing.assert_close(
        torch.cat([split.coefficients, split.remainder]).T @ together.double(),
        block.double(),
        atol=rounding * 10,
        rtol=0,
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_rest_as_small_as_rounding_allows_is_still_orthogonal(dtype):
    """The block lies in the span of the basis but for a part a thousand times rounding."""
    basis = torch.linalg.qr(draw(50, 10, 0, dtype))[0].T.contiguous()
    block = draw(2, 10, 1, dtype) @ basis + 1e3 * torch.finfo(dtype).eps * draw(2, 50, 2, dtype)
    split = orthogonalise(block, basis, recent=2, negligible=0.0)
    assert float((basis @ split.rows.T).abs().max()) < 100 * torch.finfo(dtype).eps


def test_a_block_inside_the_basis_leaves_nothing():
    basis = torch.linalg.qr(draw(50, 10, 0))[0].T.contiguous()
    block = draw(3, 10, 1) @ basis
    split = orthogonalise(block.clone(), basis, recent=4, negligible=1e-12)
    assert split.rows.shape == (0, 50)
    torch.testing.assert_close(split.coefficients.T @ basis, block)


def test_equal_rows_span_one_direction():
    row = draw(1, 30, 0)
    rows, remainder = orthonormalise(torch.cat([row, 2 * row, -row]), negligible=1e-6)
    assert rows.shape == (1, 30)
    torch.testing.assert_close(remainder.T @ rows, torch.cat([row, 2 * row, -row]))
