"""The paired test: do two settings differ, seed by seed?"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy.special import gammaln, nctdtrinc
from scipy.stats import ttest_1samp

from rfray.analysis.mean_difference import Interval, MeanDifference, untested
from rfray.analysis.statistics import FEWEST_FOR_INTERVAL

PAIRED_TEST = "paired t"
"""Student, Biometrika 6 (1908) 1. Wilcoxon's signed ranks, which ask nothing of the distribution,
cannot fall below p = 2/2ⁿ: with five seeds never below 0.0625."""

_SAME = 1e-9
"""Differences whose relative spread is below this differ by rounding."""

_LARGEST_T = 1000.0
"""Beyond it the differences hardly scatter, their size in standard deviations says nothing, and the
search for its interval takes for ever."""


def paired_test(differences: Sequence[float], reason: str = "") -> MeanDifference:
    """Tests whether the mean of paired differences is zero.

    The pairs are taken as independent and their differences as normally distributed, which so few
    of them can neither show nor refute.

    Args:
        differences: One a pair.
        reason: Why they say nothing, where that is known; then nothing is tested.
    """
    sample = np.asarray(differences, dtype=np.float64)
    n = len(sample)
    mean = float(sample.mean()) if n else math.nan
    std = float(sample.std(ddof=1)) if n > 1 else math.nan
    reason = reason or _untestable(sample)
    if reason:
        return untested(reason, n, mean, std)
    result = ttest_1samp(sample, 0.0)
    low, high = result.confidence_interval(0.95)
    t = float(result.statistic)
    return MeanDifference(
        test=PAIRED_TEST,
        n=n,
        n_against=None,
        mean=mean,
        std=std,
        interval=(float(low), float(high)),
        g=unbiased(n - 1) * mean / std,
        g_interval=_standardized_interval(t, n),
        t=t,
        p_value=float(result.pvalue),
        reason="",
    )


def unbiased(degrees: int) -> float:
    """What makes a standardized mean difference unbiased: Γ(m/2) / (√(m/2) Γ((m − 1)/2)).

    Hedges, Journal of Educational Statistics 6 (1981) 107.

    Args:
        degrees: Degrees of freedom m of the standard deviation, two or more.
    """
    half = degrees / 2
    return float(np.exp(gammaln(half) - gammaln(half - 0.5))) / math.sqrt(half)


def _standardized_interval(t: float, n: int) -> Interval:
    """The 95 % interval of the population's standardized mean difference.

    Those at which t would lie at the 97.5th and the 2.5th percentile of a noncentral t distribution
    (Cumming and Finch, Educational and Psychological Measurement 61 (2001) 532).
    """
    if abs(t) > _LARGEST_T:
        return math.nan, math.nan
    low, high = (float(nctdtrinc(n - 1, share, t)) / math.sqrt(n) for share in (0.975, 0.025))
    return low, high


def _untestable(sample: np.ndarray) -> str:
    n = len(sample)
    if n < FEWEST_FOR_INTERVAL:
        return f"{n} seed{'' if n == 1 else 's'} with both, a test takes {FEWEST_FOR_INTERVAL}"
    if np.ptp(sample) <= _SAME * np.abs(sample).max():
        return "the difference is the same at every seed"
    return ""
