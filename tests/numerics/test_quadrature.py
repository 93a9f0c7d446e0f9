from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from matrices import eigenvalues_of, generator, matrix_with

from rfray.numerics.errors import NumericsError
from rfray.numerics.operator import matrix_operator
from rfray.numerics.quadrature import smoothed, spectral_density

BULK = np.random.default_rng(3).normal(size=120)
OUTLIERS = np.concatenate([[2000, 900, 650, 250], 5 * BULK])


def probe_vectors(dimension, probes, seed=0):
    """The probes that `spectral_density` draws from this seed."""
    signs = torch.randint(0, 2, (probes, dimension), generator=generator(seed))
    return (2 * signs - 1).double() / math.sqrt(dimension)


@pytest.mark.parametrize("spectrum", [BULK, OUTLIERS, [0.1] * 9 + [0.0] * 40, [0.0] * 12])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_weights_are_a_probability(spectrum, dtype):
    operator = matrix_operator(matrix_with(spectrum, dtype=dtype))
    density = spectral_density(operator, 3, 12, generator())
    assert density.nodes.shape == density.weights.shape == (3, 12)
    assert density.products == 36
    assert (density.weights >= 0).all()
    torch.testing.assert_close(density.weights.sum(dim=1), torch.ones(3, dtype=torch.float64))


@settings(deadline=None, max_examples=30, derandomize=True)
@given(size=st.integers(4, 60), steps=st.integers(1, 8), seed=st.integers(0, 99))
def test_moments_are_those_of_each_probe(size, steps, seed):
    """Gauss quadrature with m nodes is exact for polynomials of degree 2m - 1: Σ w xᵈ = vᵀHᵈv."""
    steps = min(steps, size)
    matrix = matrix_with(np.random.default_rng(seed).uniform(-1, 1, size), seed)
    density = spectral_density(matrix_operator(matrix), 2, steps, generator(seed))
    for probe, vector in enumerate(probe_vectors(size, 2, seed)):
        image = vector
        for degree in range(2 * steps):
            found = (density.weights[probe] * density.nodes[probe] ** degree).sum()
            torch.testing.assert_close(found, vector @ image, atol=1e-10, rtol=1e-8)
            image = matrix @ image


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_many_steps_stay_accurate_without_reorthogonalisation(dtype):
    """80 steps on outliers, where rounding has long brought copies: vᵀf(H)v all the same."""
    matrix = matrix_with(OUTLIERS, dtype=dtype)
    density = spectral_density(matrix_operator(matrix), 4, 80, generator())
    values, vectors = torch.linalg.eigh(matrix.double())
    overlaps = (probe_vectors(len(OUTLIERS), 4) @ vectors) ** 2
    for function in (torch.abs, torch.atan, lambda x: torch.exp(-(((x - 3) / 4) ** 2))):
        found = (density.weights * function(density.nodes)).sum(dim=1)
        torch.testing.assert_close(found, overlaps @ function(values), atol=2e-3, rtol=2e-3)


def test_the_trace_is_estimated_with_its_error():
    matrix = matrix_with(BULK)
    density = spectral_density(matrix_operator(matrix), 400, 2, generator())
    error = density.trace - float(matrix.trace())
    assert abs(error) < 4 * density.trace_standard_error
    assert density.trace_standard_error < 0.1 * np.abs(BULK).sum()


def test_the_trace_of_a_diagonal_matrix_is_exact():
    """Rademacher probes see a diagonal without error."""
    operator = matrix_operator(torch.diag(torch.arange(10.0, dtype=torch.float64)))
    density = spectral_density(operator, 5, 3, generator())
    assert density.trace == pytest.approx(45)
    assert density.trace_standard_error == pytest.approx(0, abs=1e-12)


def test_one_probe_knows_no_error():
    density = spectral_density(matrix_operator(matrix_with(BULK)), 1, 5, generator())
    assert math.isnan(density.trace_standard_error)


def test_an_exhausted_probe_keeps_its_quadrature():
    """Two eigenvalues are exhausted after two steps; what follows has no weight."""
    density = spectral_density(
        matrix_operator(matrix_with([4.0] * 10 + [1.0] * 30)), 2, 9, generator()
    )
    far = (density.nodes - 4).abs().minimum((density.nodes - 1).abs()) > 1e-8
    assert float((density.weights * far).sum()) < 1e-12


def test_probes_are_independent_of_each_other():
    """A block of probes gives what each gives alone: draws are by row."""
    matrix = matrix_with(BULK)
    together = spectral_density(matrix_operator(matrix), 3, 6, generator())
    draws, operator = generator(), matrix_operator(matrix)
    alone = [spectral_density(operator, 1, 6, draws) for _ in range(3)]
    torch.testing.assert_close(together.nodes, torch.cat([d.nodes for d in alone]))
    torch.testing.assert_close(together.weights, torch.cat([d.weights for d in alone]))


def test_the_smoothed_density_integrates_to_one():
    density = spectral_density(matrix_operator(matrix_with(BULK)), 3, 20, generator())
    grid = torch.linspace(-8, 8, 2001)
    curve = smoothed(density, grid, width=0.2)
    assert (curve >= 0).all()
    assert float(torch.trapezoid(curve, grid.double())) == pytest.approx(1, abs=1e-6)


def test_the_smoothed_density_approaches_that_of_the_eigenvalues():
    matrix = matrix_with(BULK)
    density = spectral_density(matrix_operator(matrix), 60, 40, generator())
    grid, width = torch.linspace(-4, 4, 81), 0.5
    found = smoothed(density, grid, width).numpy()
    distances = (grid.double().numpy()[:, None] - eigenvalues_of(matrix)) / width
    truth = np.exp(-(distances**2) / 2).mean(axis=1) / (width * math.sqrt(2 * math.pi))
    assert np.abs(found - truth).max() < 0.1 * truth.max()


@pytest.mark.parametrize(("probes", "steps"), [(0, 3), (2, 0), (2, 121)])
def test_impossible_numbers_are_refused(probes, steps):
    with pytest.raises(NumericsError, match="probes of"):
        spectral_density(matrix_operator(matrix_with(BULK)), probes, steps, generator())


def test_a_width_of_zero_is_refused():
    density = spectral_density(matrix_operator(matrix_with(BULK)), 1, 2, generator())
    with pytest.raises(NumericsError, match="width"):
        smoothed(density, torch.zeros(1), 0.0)
