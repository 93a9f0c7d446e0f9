from __future__ import annotations

import numpy as np
import pytest
from matrices import eigenvalues_of, generator, matrix_with

from rfray.numerics.errors import NumericsError
from rfray.numerics.krylov import ritz_values
from rfray.numerics.operator import matrix_operator

BULK = np.random.default_rng(7).normal(scale=0.5, size=195)
SPECTRUM = [300, 80, 20, 9, 5, *BULK]


def test_ritz_values_of_every_step_are_the_spectrum():
    matrix = matrix_with(SPECTRUM)
    found = ritz_values(matrix_operator(matrix), 200, generator())
    assert found.values.numpy() == pytest.approx(eigenvalues_of(matrix), abs=1e-10)


def test_few_steps_find_the_outermost_values_and_know_it():
    """The residual that the recurrence knows bounds the error; the inner values are none."""
    matrix = matrix_with(SPECTRUM)
    found = ritz_values(matrix_operator(matrix), 20, generator())
    truth = eigenvalues_of(matrix)
    nearest = np.abs(found.values.numpy()[:, None] - truth).min(axis=1)
    assert np.all(nearest <= found.residuals.numpy() + 1e-10)
    assert found.values[:5].numpy() == pytest.approx(truth[:5], rel=1e-6)
    assert float(found.residuals[10]) > 0.05


def test_ritz_values_end_where_the_krylov_space_does():
    found = ritz_values(matrix_operator(matrix_with([3.0] * 4 + [1.0] * 30)), 10, generator())
    assert found.values.numpy() == pytest.approx([3, 1])


def test_impossible_steps_are_refused():
    with pytest.raises(NumericsError, match="6 steps"):
        ritz_values(matrix_operator(matrix_with(range(5))), 6, generator())
