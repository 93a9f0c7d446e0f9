import math
from itertools import combinations
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rfray.analysis.statistics import holm

P_VALUES = st.lists(st.floats(0, 1), min_size=1, max_size=6)


def closed_testing(p_values):
    """Adjusted p-values by the principle behind Holm's steps (Marcus, Peritz, Gabriel 1976).

    A hypothesis is rejected where every set of hypotheses that holds it is, each by Bonferroni.
    """
    places = range(len(p_values))
    sets = [s for size in range(1, len(p_values) + 1) for s in combinations(places, size)]
    return [
        max(min(1.0, len(s) * min(p_values[i] for i in s)) for s in sets if place in s)
        for place in places
    ]


def test_known_example():
    # Of https://en.wikipedia.org/wiki/Holm-Bonferroni_method: at 0.05 the first and last are found.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


@given(P_VALUES)
def test_steps_are_those_of_closed_testing(p_values):
    with mock.patch("gc.collect"):  # statsmodels calls it each time: a tenth of a second
        adjusted = holm(p_values)
    assert adjusted == pytest.approx(closed_testing(p_values), abs=1e-12)


def test_what_was_not_tested_does_not_count():
    adjusted = holm([0.01, math.nan, 0.04])

    assert adjusted[::2] == pytest.approx([0.02, 0.04])
    assert math.isnan(adjusted[1])


def test_without_a_test_there_is_nothing_to_adjust():
    assert holm([]) == []
    assert all(map(math.isnan, holm([math.nan, math.nan])))
