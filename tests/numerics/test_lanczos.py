from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from matrices import eigenvalues_of, generator, matrix_with

from rfray.numerics.errors import NumericsError
from rfray.numerics.lanczos import largest_eigenvalues
from rfray.numerics.operator import ProductCounter, counted, matrix_operator

DRAWS = np.random.default_rng(7)

SPECTRA = {
    "spread": DRAWS.normal(size=200),
    "outliers and a bulk": [300, 80, 20, 9, 5, *DRAWS.normal(scale=0.5, size=195)],
    "nine nearly equal, the rest nearly zero": [
        *(0.1 + 1e-4 * DRAWS.random(9)),
        *(1e-5 * DRAWS.normal(size=191)),
    ],
    "nine equal, the rest exactly zero": [0.1] * 9 + [0.0] * 191,
    "a fivefold eigenvalue inside the bulk": [*([1.5] * 5), *DRAWS.normal(size=195)],
    "five distinct eigenvalues": DRAWS.choice([3.0, 2.99, 0.0, -0.01, -5.0], size=200),
    "negative": -1 - DRAWS.random(200),
    "decaying": 1000 / np.arange(1, 201) ** 2,
    "a single eigenvalue": [-2.0] * 200,
    "zero": [0.0] * 200,
}


def solve(matrix, count, **options):
    options = {"tolerance": 1e-6, "max_products": 20_000} | options
    return largest_eigenvalues(matrix_operator(matrix), count, generator=generator(), **options)


def assert_right(found, matrix, count, tolerance):
    """As many as wanted, each within the tolerance of the truth, of orthonormal vectors.

    All that are no rounding errors beside the largest have converged, and say so.
    """
    truth = eigenvalues_of(matrix)
    eps = torch.finfo(matrix.dtype).eps
    norm = np.abs(truth).max()
    allowed = tolerance * np.maximum(np.abs(truth[:count]), eps ** (2 / 3) * norm)
    assert found.probed
    assert np.all(np.abs(found.values.numpy() - truth[:count]) <= allowed + 20 * eps * norm)
    significant = np.abs(truth[:count]) > 1e-3 * norm
    assert found.converged.numpy()[significant].all()
    gram = found.vectors.T @ found.vectors
    torch.testing.assert_close(gram, torch.eye(count, dtype=matrix.dtype), atol=1000 * eps, rtol=0)


@pytest.mark.parametrize("name", SPECTRA)
@pytest.mark.parametrize("block_size", [1, 3])
@pytest.mark.parametrize("basis_size", [30, 60, 200])
def test_the_largest_eigenvalues_are_found_with_their_multiplicity(name, block_size, basis_size):
    """Also by a basis much smaller than the dimension, and copies beyond the block size."""
    matrix, count = matrix_with(SPECTRA[name]), 12
    found = solve(matrix, count, block_size=block_size, basis_size=basis_size)
    assert_right(found, matrix, count, 1e-6)


@pytest.mark.parametrize("name", SPECTRA)
def test_float32_gives_what_float32_can(name):
    matrix, count = matrix_with(SPECTRA[name], dtype=torch.float32), 12
    found = solve(matrix, count, tolerance=1e-3)
    assert_right(found, matrix, count, 1e-3)


@settings(deadline=None, max_examples=60, derandomize=True)
@given(data=st.data())
def test_any_size_spectrum_block_and_basis(data):
    distinct = data.draw(
        st.lists(st.sampled_from([-7.0, -1e-8, 0, 1e-3, 0.1, 0.1001, 2, 50]), max_size=20)
    )
    others = data.draw(st.integers(1 if not distinct else 0, 60))
    seed = data.draw(st.integers(0, 999))
    spectrum = [*distinct, *np.random.default_rng(seed).normal(size=others)]
    size = len(spectrum)
    count = data.draw(st.integers(1, min(size, 15)), label="count")
    block_size = data.draw(st.integers(1, min(size, 4)), label="block")
    smallest = min(size, count + 2 * block_size + 1)
    basis_size = data.draw(st.integers(smallest, max(smallest, 40)), label="basis")
    dtype = data.draw(st.sampled_from([torch.float32, torch.float64]), label="dtype")
    matrix = matrix_with(spectrum, seed, dtype)
    found = solve(matrix, count, tolerance=1e-4, block_size=block_size, basis_size=basis_size)
    assert_right(found, matrix, count, 1e-4)


@pytest.mark.parametrize("size", [1, 2, 5])
def test_all_eigenvalues_of_a_small_matrix(size):
    matrix = matrix_with(np.arange(size) - 1.5)
    assert_right(solve(matrix, size), matrix, size, 1e-12)


def test_residuals_are_those_of_the_vectors():
    matrix = matrix_with(SPECTRA["spread"])
    found = solve(matrix, 8, tolerance=1e-2)
    explicit = (matrix @ found.vectors - found.vectors * found.values).norm(dim=0)
    torch.testing.assert_close(found.residuals, explicit, atol=1e-13, rtol=0)
    assert (found.residuals <= 1e-2 * found.values.abs()).all()


def test_an_eigenvalue_lies_within_the_residual():
    matrix = matrix_with(SPECTRA["spread"])
    found = solve(matrix, 8, tolerance=0.3, max_products=40)
    truth = eigenvalues_of(matrix)
    nearest = np.abs(found.values.numpy()[:, None] - truth).min(axis=1)
    assert np.all(nearest <= found.residuals.numpy() + 1e-13)


def test_products_are_counted_to_the_last():
    counter = ProductCounter()
    operator = counted(matrix_operator(matrix_with(SPECTRA["spread"])), counter)
    found = largest_eigenvalues(operator, 5, generator=generator())
    assert found.products == counter.products


def test_a_spent_budget_is_reported():
    matrix = matrix_with(SPECTRA["spread"])
    found = solve(matrix, 10, max_products=45)
    assert found.products <= 45
    assert not found.converged.all()
    assert not found.probed
    explicit = (matrix @ found.vectors - found.vectors * found.values).norm(dim=0)
    torch.testing.assert_close(found.residuals, explicit, atol=1e-13, rtol=0)
    torch.testing.assert_close(found.converged, explicit <= 1e-6 * found.values.abs())


def test_a_budget_that_ends_between_convergence_and_probe_is_reported():
    """One Krylov space holds one copy of 3: the second is missing, and that is said."""
    matrix = matrix_with([3.0, 3.0, 2.0, 1.0, *np.linspace(-0.1, 0.1, 196)])
    found = solve(matrix, 3, tolerance=1e-3, max_products=10)
    assert found.values.numpy() == pytest.approx([3, 2, 1], rel=1e-3)
    assert found.converged.all()
    assert not found.probed
    assert solve(matrix, 3).values.numpy() == pytest.approx([3, 3, 2])


@pytest.mark.parametrize("name", SPECTRA)
@pytest.mark.parametrize("max_products", [27, 40, 71])
def test_no_budget_is_exceeded(name, max_products):
    matrix = matrix_with(SPECTRA[name])
    found = solve(matrix, 12, block_size=3, basis_size=24, max_products=max_products)
    assert len(found.values) == 12
    assert found.products <= max_products


@pytest.mark.parametrize(("count", "block_size"), [(1, 1), (7, 3), (20, 4)])
def test_the_least_budget_still_gives_as_many_values_as_wanted(count, block_size):
    matrix = matrix_with(SPECTRA["spread"])
    found = solve(matrix, count, block_size=block_size, max_products=2 * count + block_size)
    assert len(found.values) == len(found.residuals) == count
    assert found.products <= 2 * count + block_size


def test_progress_ends_with_all_converged():
    seen = []
    found = solve(
        matrix_with(SPECTRA["spread"]),
        10,
        progress=lambda products, done: seen.append((products, done)),
    )
    products = [entry[0] for entry in seen]
    assert products == sorted(products)
    assert products[-1] <= found.products
    assert seen[-1][1] == 10


def test_the_same_seed_gives_the_same_numbers():
    matrix = matrix_with(SPECTRA["spread"], dtype=torch.float32)
    assert torch.equal(solve(matrix, 5).values, solve(matrix, 5).values)


def test_a_lower_tolerance_takes_more_products():
    matrix = matrix_with(SPECTRA["spread"])
    taken = [solve(matrix, 10, tolerance=t, basis_size=60).products for t in (1e-1, 1e-3, 1e-9)]
    assert taken == sorted(taken)


@pytest.mark.parametrize(
    ("count", "options", "message"),
    [
        (0, {}, "0 eigenvalues"),
        (201, {}, "201 eigenvalues of an operator of dimension 200"),
        (5, {"block_size": 0}, "block of 0"),
        (5, {"tolerance": 0.0}, "tolerance"),
        (5, {"basis_size": 7}, "basis of 7 vectors; this needs at least 8"),
        (5, {"max_products": 10}, "max_products is 10; it must be at least 11"),
    ],
)
def test_impossible_wishes_are_refused(count, options, message):
    with pytest.raises(NumericsError, match=message):
        solve(matrix_with(SPECTRA["spread"]), count, **options)


def test_an_operator_that_gives_nan_is_refused():
    with pytest.raises(NumericsError, match="not finite"):
        solve(torch.full((30, 30), torch.nan), 2)
