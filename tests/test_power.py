import pytest
from statsmodels.stats.power import TTestIndPower, TTestPower

from rfray.analysis.statistics import FEWEST_FOR_INTERVAL
from rfray.commands.power import FEWEST_PAIRS, resolution


def test_known_sizes():
    # Cohen (1988), table 2.4.1: at a two-sided 0.05, power 0.8 to find d = 0.5 takes 64 a group,
    # d = 0.8 takes 26; of pairs d = 0.5 takes 34 (G*Power 3).
    assert resolution(64).unpaired == pytest.approx(0.5, abs=0.005)
    assert resolution(26).unpaired == pytest.approx(0.8, abs=0.01)
    assert resolution(34).paired == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize("n", [3, 4, 5, 10, 30, 100])
def test_agrees_with_statsmodels(n):
    unpaired = TTestIndPower().solve_power(nobs1=n, alpha=0.05, power=0.8)
    paired = TTestPower().solve_power(nobs=n, alpha=0.05, power=0.8)

    assert resolution(n).unpaired == pytest.approx(unpaired, rel=1e-4)
    assert resolution(n).paired == pytest.approx(paired, rel=1e-4)


def test_two_values_make_no_paired_test():
    unpaired = TTestIndPower().solve_power(nobs1=2, alpha=0.05, power=0.8)

    assert resolution(2).unpaired == pytest.approx(unpaired, rel=1e-4)
    assert resolution(2).paired is None
    assert FEWEST_PAIRS == FEWEST_FOR_INTERVAL


def test_one_value_resolves_nothing():
    with pytest.raises(ValueError, match="1 value resolves no difference"):
        resolution(1)
