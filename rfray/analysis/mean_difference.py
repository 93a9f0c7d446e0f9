"""The mean difference between two settings and its test: a paired t-test or Welch's t-test."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import gammaln, nctdtrinc
from scipy.stats import ttest_1samp, ttest_ind

from rfray.analysis.statistics import FEWEST_FOR_INTERVAL, summarize

WELCH_TEST = "Welch's t"
"""Welch, Biometrika 34 (1947) 28: Student's t without the assumption of equal variances."""

PAIRED_TEST = "paired t"
"""Student, Biometrika 6 (1908) 1. Wilcoxon's signed-rank test needs no assumption about the
distribution, but its p is never below 2/2ⁿ: with five seeds never below 0.0625."""

_SAME = 1e-9
"""If their relative spread is below this, differences differ by rounding only."""

_LARGEST_T = 1000.0
"""Above it the differences hardly vary, so that their size in standard deviations means nothing,
and the search for its interval does not end."""

Interval = tuple[float, float]

_UNKNOWN: Interval = (math.nan, math.nan)


@dataclass(frozen=True)
class MeanDifference:
    """A mean difference with a two-sided test of whether it is zero.

    Attributes:
        n: Number of pairs; without pairs, the number of values on the first side.
        mean: Mean difference; NaN if a side has no value.
        std: Standard deviation of the differences (n − 1); NaN with fewer than two pairs.
        n_against: Number of values on the other side; None if the values are paired.
        test: Name of the test; empty if nothing was tested.
        interval: 95 % interval of the mean difference; NaN if nothing was tested.
        g: Hedges' g: the mean difference divided by the standard deviation of the differences, with
            the correction for small samples. NaN if nothing was tested. NaN without pairs as well:
            that g has another standard deviation, and the two are not comparable.
        g_interval: Its 95 % interval.
        t: The statistic; NaN if nothing was tested.
        p_value: Probability of a difference at least this large, in either direction, if there were
            none; NaN if nothing was tested.
        reason: Why nothing was tested; empty if something was.
    """

    n: int
    mean: float
    std: float = math.nan
    n_against: int | None = None
    test: str = ""
    interval: Interval = _UNKNOWN
    g: float = math.nan
    g_interval: Interval = _UNKNOWN
    t: float = math.nan
    p_value: float = math.nan
    reason: str = ""


def paired_test(differences: Sequence[float], reason: str = "") -> MeanDifference:
    """Tests whether the mean of paired differences is zero.

    It assumes that the pairs are independent and their differences normally distributed. A few
    pairs can neither confirm nor disprove this.

    If there is a known `reason` why they mean nothing, nothing is tested.
    """
    sample = np.asarray(differences, dtype=np.float64)
    summary = summarize(sample)
    n, mean, std = summary.n, summary.mean, summary.std
    reason = reason or _untestable(sample)
    if reason:
        return MeanDifference(n, mean, std, reason=reason)
    result = ttest_1samp(sample, 0.0)
    low, high = result.confidence_interval(0.95)
    t = float(result.statistic)
    return MeanDifference(
        n,
        mean,
        std,
        test=PAIRED_TEST,
        interval=(float(low), float(high)),
        g=unbiased(n - 1) * mean / std,
        g_interval=_standardized_interval(t, n),
        t=t,
        p_value=float(result.pvalue),
    )


def unbiased(degrees: int) -> float:
    """The factor that makes a standardized difference unbiased: Γ(m/2) / (√(m/2) Γ((m − 1)/2)).

    m are the degrees of freedom of the standard deviation, at least two (Hedges, Journal of
    Educational Statistics 6 (1981) 107).
    """
    half = degrees / 2
    return float(np.exp(gammaln(half) - gammaln(half - 0.5))) / math.sqrt(half)


def _standardized_interval(t: float, n: int) -> Interval:
    """The 95 % interval of the population's standardized mean difference.

    Its ends are the differences for which t is the 97.5th and the 2.5th percentile of a noncentral
    t distribution (Cumming and Finch, Educational and Psychological Measurement 61 (2001) 532).
    """
    if abs(t) > _LARGEST_T:
        return math.nan, math.nan
    low, high = (float(nctdtrinc(n - 1, share, t)) / math.sqrt(n) for share in (0.975, 0.025))
    return low, high


def _untestable(sample: np.ndarray) -> str:
    n = len(sample)
    if n < FEWEST_FOR_INTERVAL:
        return f"{n} seed{'' if n == 1 else 's'} with both, a test needs {FEWEST_FOR_INTERVAL}"
    if np.ptp(sample) <= _SAME * np.abs(sample).max():
        return "the difference is the same at every seed"
    return ""


def welch_test(
    values: Sequence[float], against: Sequence[float], reason: str = ""
) -> MeanDifference:
    """Tests whether two samples with no seed in common have the same mean: values minus against.

    If there is a known `reason` why they mean nothing, nothing is tested.
    """
    first, second = (np.asarray(side, dtype=np.float64) for side in (values, against))
    n, n_against = len(first), len(second)
    mean = float(first.mean() - second.mean()) if n and n_against else math.nan
    reason = reason or _untestable_apart(first, second)
    if reason:
        return MeanDifference(n, mean, n_against=n_against, reason=reason)
    result = ttest_ind(first, second, equal_var=False)
    low, high = result.confidence_interval(0.95)
    return MeanDifference(
        n,
        mean,
        n_against=n_against,
        test=WELCH_TEST,
        interval=(float(low), float(high)),
        t=float(result.statistic),
        p_value=float(result.pvalue),
    )


def _untestable_apart(first: np.ndarray, second: np.ndarray) -> str:
    n, n_against = len(first), len(second)
    if min(n, n_against) < FEWEST_FOR_INTERVAL:
        return (
            f"{n} and {n_against} seeds, none of them the same: a test needs "
            f"{FEWEST_FOR_INTERVAL} on each side"
        )
    if np.ptp(first) == 0 and np.ptp(second) == 0:
        return "on each side, all seeds have the same value"
    return ""
