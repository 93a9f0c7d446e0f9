from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from matrices import generator, matrix_with

from rfray.numerics.errors import NumericsError
from rfray.numerics.operator import (
    ProductCounter,
    check_operator,
    counted,
    gaussian_block,
    matrix_operator,
    relocated,
)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_symmetric_deterministic_operator_passes(dtype):
    check_operator(matrix_operator(matrix_with(range(-20, 80), dtype=dtype)), generator())


def test_zero_is_symmetric():
    check_operator(matrix_operator(torch.zeros(7, 7)), generator())


def test_an_operator_that_is_not_symmetric_is_refused_with_the_deviation():
    matrix = matrix_with(range(50))
    matrix[3, 17] += 1e-6
    with pytest.raises(NumericsError, match=r"not symmetric: \|u·Hv - v·Hu\| = .*e-0"):
        check_operator(matrix_operator(matrix), generator())


def test_a_coarse_tolerance_allows_a_tenth_of_itself():
    matrix = matrix_with(range(50))
    matrix[3, 17] += 0.1
    check_operator(matrix_operator(matrix), generator(), tolerance=0.1)
    with pytest.raises(NumericsError, match="not symmetric"):
        check_operator(matrix_operator(matrix), generator(), tolerance=1e-3)


def test_an_operator_that_changes_between_products_is_refused():
    matrix, noise = matrix_with(range(50)), generator(5)

    def apply(block):
        return matrix @ block + 1e-9 * torch.randn(block.shape, generator=noise)

    with pytest.raises(NumericsError, match="not deterministic"):
        check_operator(replace(matrix_operator(matrix), apply=apply), generator())


def test_an_operator_that_gives_nan_is_refused():
    operator = matrix_operator(torch.full((4, 4), torch.nan))
    with pytest.raises(NumericsError):
        check_operator(operator, generator())


def test_a_matrix_that_is_not_square_is_no_operator():
    with pytest.raises(NumericsError, match="square"):
        matrix_operator(torch.zeros(3, 4))


def test_products_are_counted_by_vectors():
    counter = ProductCounter()
    operator = counted(matrix_operator(matrix_with(range(6))), counter)
    operator.apply(torch.zeros(6, 4, dtype=torch.float64))
    operator.apply(torch.zeros(6, 1, dtype=torch.float64))
    assert counter.products == 5


def test_a_counted_product_that_is_not_finite_is_refused():
    operator = counted(matrix_operator(torch.full((3, 3), torch.inf)), ProductCounter())
    with pytest.raises(NumericsError, match=r"product 2 .* not finite"):
        operator.apply(torch.ones(3, 2))


def test_a_relocated_operator_gives_the_same_products():
    operator = matrix_operator(matrix_with(range(6)))
    moved = relocated(operator, torch.device("cpu"))
    block = gaussian_block(operator, 3, generator())
    assert torch.equal(moved.apply(block), operator.apply(block))
    assert moved.dimension == 6
