"""Means over few values, with what is known of their error."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtrit


@dataclass(frozen=True)
class Summary:
    """A sample in five numbers.

    Attributes:
        mean: Mean; NaN of an empty sample.
        std: Standard deviation with n−1; NaN where n < 2.
        n: Number of values.
        ci_low: Lower end of the 95 % interval of the mean by Student's t; NaN where n < 2.
        ci_high: Its upper end.
    """

    mean: float
    std: float
    n: int
    ci_low: float
    ci_high: float


def summarize(values: Sequence[float]) -> Summary:
    """The summary of a sample of finite values.

    Raises:
        ValueError: If a value is not finite: a mean over it would be quietly wrong.
    """
    sample = np.asarray(values, dtype=np.float64)
    if not np.isfinite(sample).all():
        raise ValueError("a value that is not finite cannot be averaged")
    n = len(sample)
    if n == 0:
        return Summary(math.nan, math.nan, 0, math.nan, math.nan)
    mean = float(sample.mean())
    if n == 1:
        return Summary(mean, math.nan, 1, math.nan, math.nan)
    std = float(sample.std(ddof=1))
    margin = float(stdtrit(n - 1, 0.975)) * std / math.sqrt(n)
    return Summary(mean, std, n, mean - margin, mean + margin)


def standard_errors_apart(
    summary: Summary, other_mean: float, other_std: float, other_n: int | None
) -> float:
    """How far a mean lies above another one, in standard errors of their difference.

    (m₁ − m₂) / √(s₁²/n₁ + s₂²/n₂), as in Welch's test: nothing says that both scatter alike.

    Returns:
        NaN where a deviation or a count is not known, or where neither sample scatters.
    """
    if other_n is None or not math.isfinite(summary.std) or not math.isfinite(other_std):
        return math.nan
    error = math.hypot(summary.std / math.sqrt(summary.n), other_std / math.sqrt(other_n))
    return (summary.mean - other_mean) / error if error > 0 else math.nan
