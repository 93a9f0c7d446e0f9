import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from rfray.analysis.statistics import standard_errors_apart, summarize

# Thousandths: the squares of tiny floats vanish, and a deviation of zero with them.
NUMBERS = st.integers(-(10**9), 10**9).map(lambda thousandths: thousandths / 1000)


def test_known_sample():
    summary = summarize([90.0, 92.0, 94.0])

    assert (summary.mean, summary.std, summary.n) == (92.0, 2.0, 3)
    assert summary.ci_low == pytest.approx(87.03172, abs=1e-5)
    assert summary.ci_high == pytest.approx(96.96828, abs=1e-5)


@given(st.lists(NUMBERS, min_size=3, max_size=12))
def test_interval_is_students(values):
    summary = summarize(values)

    error = stats.sem(np.array(values))
    margin = stats.t.ppf(0.975, len(values) - 1) * error
    assert summary.ci_high - summary.mean == pytest.approx(margin, rel=1e-6, abs=1e-6)
    assert summary.mean - summary.ci_low == pytest.approx(margin, rel=1e-6, abs=1e-6)


def test_two_values_have_no_interval():
    summary = summarize([10.0, 80.0], (0.0, 100.0))

    assert summary.std == pytest.approx(49.497, abs=1e-3)
    assert math.isnan(summary.ci_low)
    assert math.isnan(summary.ci_high)


def test_the_interval_of_a_percentage_is_that_of_its_logit():
    summary = summarize([90.0, 92.0, 94.0], (0.0, 100.0))

    margin = stats.t.ppf(0.975, 2) * 0.02 / math.sqrt(3) / (0.92 * 0.08)
    odds = math.log(0.92 / 0.08)
    assert summary.ci_low == pytest.approx(100 / (1 + math.exp(-(odds - margin))))
    assert summary.ci_high == pytest.approx(100 / (1 + math.exp(-(odds + margin))))
    assert (round(summary.ci_low, 2), round(summary.ci_high, 2)) == (85.41, 95.76)


PERCENTAGES = st.integers(0, 1000).map(lambda tenths: tenths / 10)


@given(st.lists(PERCENTAGES, min_size=3, max_size=8))
def test_the_interval_of_a_percentage_stays_within_it_and_holds_the_mean(values):
    summary = summarize(values, (0.0, 100.0))

    assert 0 <= summary.ci_low <= summary.mean + 1e-9
    assert summary.mean - 1e-9 <= summary.ci_high <= 100


def test_the_interval_of_values_far_from_the_bounds_is_about_students():
    plain, bounded = summarize([49.9, 50.0, 50.1]), summarize([49.9, 50.0, 50.1], (0.0, 100.0))

    assert bounded.ci_low == pytest.approx(plain.ci_low, abs=1e-3)
    assert bounded.ci_high == pytest.approx(plain.ci_high, abs=1e-3)


def test_one_value_has_no_deviation():
    summary = summarize([3.0])

    assert (summary.mean, summary.n) == (3.0, 1)
    assert math.isnan(summary.std)
    assert math.isnan(summary.ci_low)


def test_no_value_has_no_mean():
    assert math.isnan(summarize([]).mean)


@pytest.mark.parametrize("odd", [math.nan, math.inf])
def test_what_is_not_finite_is_never_averaged(odd):
    with pytest.raises(ValueError, match="not finite"):
        summarize([1.0, odd])


@given(
    st.lists(NUMBERS, min_size=2, max_size=8, unique=True),
    st.lists(NUMBERS, min_size=2, max_size=8, unique=True),
)
def test_distance_between_means_is_welchs(first, second):
    other = summarize(second)

    apart = standard_errors_apart(summarize(first), other.mean, other.std, other.n)

    expected = stats.ttest_ind(first, second, equal_var=False).statistic
    assert apart == pytest.approx(expected, rel=1e-6, abs=1e-6)


@pytest.mark.parametrize(
    ("values", "std", "n"), [([1.0], 0.1, 5), ([1.0, 2.0], math.nan, 5), ([1.0, 2.0], 0.1, None)]
)
def test_without_a_deviation_or_a_count_there_is_no_standard_error(values, std, n):
    assert math.isnan(standard_errors_apart(summarize(values), 1.0, std, n))


def test_samples_that_do_not_scatter_are_no_finite_distance_apart():
    assert math.isnan(standard_errors_apart(summarize([1.0, 1.0]), 2.0, 0.0, 5))
