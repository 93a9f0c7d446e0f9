"""Welch's test of two samples without a common seed."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from rfray.analysis.mean_difference import welch_test

SAMPLES = st.lists(st.integers(-50, 50).map(float), min_size=3, max_size=9).filter(
    lambda values: len(set(values)) > 1
)


@given(SAMPLES, SAMPLES)
def test_it_is_the_formula_of_welch_and_satterthwaite(values, against):
    found = welch_test(values, against)

    errors = [np.var(side, ddof=1) / len(side) for side in (values, against)]
    error = math.sqrt(sum(errors))
    degrees = sum(errors) ** 2 / sum(
        one**2 / (len(side) - 1) for one, side in zip(errors, (values, against), strict=True)
    )
    mean = np.mean(values) - np.mean(against)
    half_width = stats.t.ppf(0.975, degrees) * error
    assert found.mean == pytest.approx(mean)
    assert found.t == pytest.approx(mean / error)
    assert found.p_value == pytest.approx(2 * stats.t.sf(abs(mean / error), degrees))
    assert found.interval == pytest.approx((mean - half_width, mean + half_width))
    assert (found.n, found.n_against) == (len(values), len(against))


@pytest.mark.parametrize(
    ("values", "against", "reason"),
    [
        ([1.0, 2.0], [1.0, 2.0, 3.0], "2 and 3 seeds, none of them the same: a test needs 3"),
        ([2.0] * 3, [1.0] * 3, "on each side, all seeds have the same value"),
    ],
)
def test_too_little_is_not_tested(values, against, reason):
    found = welch_test(values, against)

    assert found.reason.startswith(reason)
    assert found.mean == np.mean(values) - np.mean(against)
    assert math.isnan(found.p_value)
    assert found.test == ""


def test_a_known_reason_is_kept():
    assert welch_test([1.0, 2.0, 3.0], [4.0, 5.0, 7.0], "at chance").reason == "at chance"
