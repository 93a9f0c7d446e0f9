"""Means of a few values and their errors; p-values corrected for several tests."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import expit, logit, stdtrit

FEWEST_FOR_INTERVAL = 3
"""With two values Student's t has one degree of freedom, and the interval extends 12.7 standard
errors to each side: it means nothing."""

Bounds = tuple[float, float]
"""The least and the greatest possible value of a quantity."""


@dataclass(frozen=True)
class Summary:
    """A sample in five numbers, NaN where it has too few values.

    `std` is the standard deviation (n − 1), which needs two values. `ci_low` and `ci_high` are the
    ends of the 95 % interval of the mean, which needs `FEWEST_FOR_INTERVAL`.
    """

    mean: float
    std: float
    n: int
    ci_low: float = math.nan
    ci_high: float = math.nan


def summarize(values: ArrayLike, bounds: Bounds | None = None) -> Summary:
    """The summary of a sample of finite values; the interval stays within the quantity's bounds.

    Raises:
        ValueError: If a value is not finite.
    """
    sample = np.asarray(values, dtype=np.float64)
    if not np.isfinite(sample).all():
        raise ValueError("a value that is not finite cannot be averaged")
    n = len(sample)
    mean = float(sample.mean()) if n else math.nan
    std = float(sample.std(ddof=1)) if n > 1 else math.nan
    if n < FEWEST_FOR_INTERVAL:
        return Summary(mean, std, n)
    margin = float(stdtrit(n - 1, 0.975)) * std / math.sqrt(n)
    low, high = (mean - margin, mean + margin) if not bounds else _within(mean, margin, bounds)
    return Summary(mean, std, n, low, high)


def _within(mean: float, margin: float, bounds: Bounds) -> tuple[float, float]:
    """The interval of a mean of bounded values: Student's t on the logit scale.

    Let p be the mean, scaled so that the bounds are 0 and 1. The standard error of logit p is that
    of p divided by p(1 − p) (the delta method; Agresti, Categorical Data Analysis, 3rd ed., 2013,
    sections 3.1.6 and 16.1). The interval of logit p, transformed back, contains the mean and stays
    between the bounds.
    """
    least, greatest = bounds
    span = greatest - least
    share = (mean - least) / span
    if margin == 0 or not 0 < share < 1:
        return mean, mean
    half_width = margin / span / (share * (1 - share))
    low, high = (expit(logit(share) + side * half_width) for side in (-1, 1))
    return least + span * float(low), least + span * float(high)


def standard_errors_apart(
    summary: Summary, other_mean: float, other_std: float, other_n: int | None
) -> float:
    """How far a mean is above another one, in standard errors of their difference.

    (m₁ − m₂) / √(s₁²/n₁ + s₂²/n₂), as in Welch's test, which does not assume equal variances. NaN
    if a deviation or a count is not known, or if both deviations are 0.
    """
    if other_n is None or not math.isfinite(summary.std) or not math.isfinite(other_std):
        return math.nan
    error = math.hypot(summary.std / math.sqrt(summary.n), other_std / math.sqrt(other_n))
    return (summary.mean - other_mean) / error if error > 0 else math.nan


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values corrected for the number of tests by Holm's step-down procedure.

    The smallest of m p-values is multiplied by m, the next by m − 1 and so on, and none may be
    below the one before it. If every corrected p-value up to α is called a finding, the probability
    of any false finding is at most α, even if the tests are not independent (Holm, Scandinavian
    Journal of Statistics 6 (1979) 65). NaN, where nothing was tested, does not count and stays NaN.
    """
    from statsmodels.stats.multitest import multipletests  # takes a second to import

    adjusted = np.asarray(p_values, dtype=np.float64)
    tested = ~np.isnan(adjusted)
    if tested.any():
        adjusted[tested] = multipletests(adjusted[tested], method="holm")[1]
    return [float(p_value) for p_value in adjusted]
