import math
from itertools import combinations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import stats

from rfray.analysis.trend import trend_over

GROUPS = st.lists(st.lists(st.integers(0, 10**6), min_size=2, max_size=5), min_size=2, max_size=5)


def over_fields(groups, hypothesis):
    return trend_over("receptive_field", groups, hypothesis)


def fielded(groups):
    return [(100 * (index + 1), [float(v) for v in values]) for index, values in enumerate(groups)]


def textbook(groups):
    """P(J is so small) by Jonckheere's statistic and its normal approximation, without ties."""
    j = sum(
        1.0 if low < high else 0.0
        for first, second in combinations(groups, 2)
        for low in first
        for high in second
    )
    sizes = [len(values) for values in groups]
    n = sum(sizes)
    mean = (n**2 - sum(size**2 for size in sizes)) / 4
    variance = (n**2 * (2 * n + 3) - sum(size**2 * (2 * size + 3) for size in sizes)) / 72
    return stats.norm.cdf((j - mean) / math.sqrt(variance))


@given(GROUPS)
def test_p_value_is_that_of_the_textbook(groups):
    values = [value for group in groups for value in group]
    assume(len(set(values)) == len(values))

    trend = over_fields(fielded(groups), "falls")

    assert trend.p_value == pytest.approx(textbook(groups), rel=1e-9)


@given(GROUPS)
def test_both_directions_share_the_probability(groups):
    assume(len({value for group in groups for value in group}) > 1)

    falls = over_fields(fielded(groups), "falls")
    rises = over_fields(fielded(groups), "rises")

    assert falls.p_value + rises.p_value == pytest.approx(1.0)
    assert falls.tau == rises.tau


@given(GROUPS)
def test_the_order_in_which_cells_come_does_not_matter(groups):
    assert repr(over_fields(fielded(groups), "falls")) == repr(
        over_fields(fielded(groups)[::-1], "falls")
    )


def test_values_that_fall_are_found_to_fall():
    trend = over_fields([(181, [90.0, 91.0]), (359, [80.0, 81.0]), (537, [70.0])], "falls")

    assert trend.p_value < 0.05
    assert trend.tau < -0.8
    assert (trend.levels, trend.n, trend.reason) == ((181, 359, 537), 5, "")


def test_one_value_a_receptive_field_is_tested_exactly():
    trend = over_fields([(1, [4.0]), (2, [3.0]), (3, [2.0]), (4, [1.0])], "falls")

    assert trend.p_value == pytest.approx(1 / 24)


@pytest.mark.parametrize(
    ("groups", "reason"),
    [
        ([], "no values"),
        ([(181, [1.0, 2.0])], "only receptive field 181 has values"),
        ([(181, [1.0]), (None, [2.0])], "a receptive field is not recorded"),
        ([(181, [0.0, 0.0]), (359, [0.0])], "all values are equal"),
    ],
)
def test_what_cannot_be_tested_says_why(groups, reason):
    trend = over_fields(groups, "falls")

    assert trend.reason == reason
    assert math.isnan(trend.p_value)


def test_the_levels_may_be_of_any_ordered_axis():
    groups = [(0.1, [70.0, 71.0]), (0.01, [80.0, 81.0]), (0.001, [90.0, 91.0])]

    trend = trend_over("train.learning_rate", groups, "falls")

    assert (trend.over, trend.levels) == ("train.learning_rate", (0.001, 0.01, 0.1))
    assert trend.p_value == pytest.approx(textbook([[90.0, 91.0], [80.0, 81.0], [70.0, 71.0]]))
    reason = trend_over("train.learning_rate", groups[:1], "falls").reason
    assert reason == "only train.learning_rate 0.1 has values"


# How steep it is


def test_the_slope_per_doubling_of_a_straight_line_is_its_own():
    groups = [(100.0, [90.0, 90.0]), (200.0, [87.0, 87.0]), (400.0, [84.0, 84.0])]
    slope = trend_over("receptive_field", groups, "falls").slope
    assert slope.per == "doubling"
    assert slope.value == pytest.approx(-3.0)
    assert slope.low <= -3.0 <= slope.high


def test_the_slope_of_an_axis_that_holds_zero_is_per_unit():
    slope = trend_over("train.weight_decay", [(0.0, [1.0]), (2.0, [5.0])], "rises").slope
    assert (slope.per, slope.value) == ("unit", 2.0)
    assert math.isnan(slope.low)


def test_the_slope_agrees_with_the_example_of_sen_1968():
    # Its slope is 4, and its 93 % interval goes from 26/7 to 35/8. A level of 0 keeps it per unit.
    t = [1, 2, 3, 4, 10, 12, 18]
    y = [9, 15, 19, 20, 45, 55, 78]
    groups = [(float(level) - 1.0, [float(value)]) for level, value in zip(t, y, strict=True)]
    slope = trend_over("t", groups, "rises").slope
    assert slope.value == pytest.approx(4.0)
    assert 3.5 < slope.low <= 26 / 7
    assert 35 / 8 <= slope.high < 4.6


def test_the_interval_holds_the_slope_that_values_were_drawn_with_about_95_times_in_100():
    random = np.random.default_rng(0)
    inside = 0
    for _ in range(400):
        groups = [(2.0**k, list(-2.0 * k + random.normal(size=5))) for k in range(4)]
        slope = trend_over("receptive_field", groups, "falls").slope
        inside += slope.low <= -2.0 <= slope.high
    assert inside / 400 == pytest.approx(0.95, abs=0.03)
