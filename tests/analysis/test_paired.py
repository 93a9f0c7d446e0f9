import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from rfray.analysis.mean_difference import paired_test, unbiased

# Hours of sleep gained by ten patients on the second drug over the first: Cushny and Peebles,
# Journal of Physiology 32 (1905) 501, the data that Student (1908) and R's `sleep` made known.
SLEEP = [1.2, 2.4, 1.3, 1.3, 0.0, 1.0, 1.8, 0.8, 4.6, 1.4]

DIFFERENCES = st.lists(st.integers(-50, 50).map(float), min_size=3, max_size=9).filter(
    lambda values: len(set(values)) > 1
)


def test_known_sample():
    found = paired_test(SLEEP)

    # As R prints `t.test(extra ~ group, data = sleep, paired = TRUE)`, other sign.
    assert (found.n, found.mean) == (10, pytest.approx(1.58))
    assert found.t == pytest.approx(4.0621, abs=5e-5)
    assert found.p_value == pytest.approx(0.002833, abs=5e-7)
    assert found.interval == pytest.approx((0.7001142, 2.4598858), abs=5e-8)
    assert found.reason == ""


def test_hedges_factor_is_that_of_the_published_table():
    # Exact factors by degrees of freedom, as tabulated since Hedges (1981).
    table = {2: 0.5642, 3: 0.7236, 4: 0.7979, 5: 0.8408, 10: 0.9228, 20: 0.9619, 50: 0.9849}

    assert {m: round(unbiased(m), 4) for m in table} == pytest.approx(table, abs=1.01e-4)


@given(DIFFERENCES)
def test_the_ends_of_the_interval_are_where_t_would_be_a_rare_value(differences):
    found = paired_test(differences)
    low, high = (end * math.sqrt(found.n) for end in found.g_interval)

    assert stats.nct.cdf(found.t, found.n - 1, low) == pytest.approx(0.975, abs=1e-5)
    assert stats.nct.cdf(found.t, found.n - 1, high) == pytest.approx(0.025, abs=1e-5)


@given(DIFFERENCES)
def test_the_test_is_that_of_two_paired_samples(differences):
    first = [float(place) for place in range(len(differences))]
    second = [one + difference for one, difference in zip(first, differences, strict=True)]

    found, expected = paired_test(differences), stats.ttest_rel(second, first)

    assert found.p_value == pytest.approx(expected.pvalue)
    assert found.g == pytest.approx(
        unbiased(found.n - 1) * expected.statistic / math.sqrt(found.n), abs=1e-12
    )


@given(DIFFERENCES)
def test_the_interval_leaves_zero_out_where_p_is_below_a_twentieth(differences):
    found = paired_test(differences)
    (low, high), (g_low, g_high) = found.interval, found.g_interval

    assert (low > 0 or high < 0) == (found.p_value < 0.05)
    assert (g_low > 1e-6 or g_high < -1e-6) == (found.p_value < 0.05)


@pytest.mark.parametrize(
    ("differences", "reason"),
    [
        ([], "0 seeds with both, a test needs 3"),
        ([1.0], "1 seed with both, a test needs 3"),
        ([1.0, 2.0], "2 seeds with both, a test needs 3"),
        ([0.0, 0.0, 0.0], "the difference is the same at every seed"),
        ([90.1 - 80.1, 90.2 - 80.2, 90.3 - 80.3], "the difference is the same at every seed"),
    ],
)
def test_what_cannot_be_tested_says_why(differences, reason):
    found = paired_test(differences)

    assert found.reason == reason
    assert all(map(math.isnan, (found.p_value, found.t, found.g, *found.interval)))


def test_differences_that_hardly_scatter_have_no_size_in_their_deviations():
    found = paired_test([1.0, 1.0001, 1.00005])

    assert found.p_value < 1e-8
    assert all(map(math.isnan, found.g_interval))
