"""Welch's test: do two settings differ that have no seed in common?"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy.stats import ttest_ind

from rfray.analysis.mean_difference import UNKNOWN, MeanDifference, untested
from rfray.analysis.statistics import FEWEST_FOR_INTERVAL

WELCH_TEST = "Welch's t"
"""Welch, Biometrika 34 (1947) 28: Student's t without the assumption that both scatter alike."""


def welch_test(
    values: Sequence[float], against: Sequence[float], reason: str = ""
) -> MeanDifference:
    """Tests whether two independent samples have one mean: values minus against.

    Args:
        values: One a seed.
        against: One a seed of the other side, none of which the first side has.
        reason: Why they say nothing, where that is known; then nothing is tested.
    """
    first, second = (np.asarray(side, dtype=np.float64) for side in (values, against))
    n, n_against = len(first), len(second)
    mean = float(first.mean() - second.mean()) if n and n_against else math.nan
    reason = reason or _untestable(first, second)
    if reason:
        return untested(reason, n, mean, n_against=n_against)
    result = ttest_ind(first, second, equal_var=False)
    low, high = result.confidence_interval(0.95)
    return MeanDifference(
        test=WELCH_TEST,
        n=n,
        n_against=n_against,
        mean=mean,
        std=math.nan,
        interval=(float(low), float(high)),
        g=math.nan,
        g_interval=UNKNOWN,
        t=float(result.statistic),
        p_value=float(result.pvalue),
        reason="",
    )


def _untestable(first: np.ndarray, second: np.ndarray) -> str:
    n, n_against = len(first), len(second)
    if min(n, n_against) < FEWEST_FOR_INTERVAL:
        return (
            f"{n} and {n_against} seeds, none of them the same: a test takes "
            f"{FEWEST_FOR_INTERVAL} on each side"
        )
    if np.ptp(first) == 0 and np.ptp(second) == 0:
        return "neither side differs between its seeds"
    return ""
