"""How two settings differ on average, and the test whether they do."""

from __future__ import annotations

import math
from dataclasses import dataclass

Interval = tuple[float, float]

UNKNOWN: Interval = (math.nan, math.nan)


@dataclass(frozen=True)
class MeanDifference:
    """A mean difference with a two-sided test of whether it is zero.

    Attributes:
        test: Name of the test; empty where nothing was tested.
        n: Number of pairs, or of values on the first side where there are no pairs.
        n_against: Number of values on the other side; None where they are pairs.
        mean: Mean difference; NaN where a side has no value.
        std: Standard deviation of the differences, n − 1; NaN under two pairs, and without pairs.
        interval: 95 % interval of the mean difference; NaN where nothing was tested.
        g: The mean difference in standard deviations of the differences, without its bias in small
            samples: Hedges' g; NaN where nothing was tested, and without pairs, for a g in other
            standard deviations would not stand beside this one.
        g_interval: Its 95 % interval.
        t: The statistic; NaN where nothing was tested.
        p_value: Probability of such a difference or a larger one, either way, if there were none;
            NaN where nothing was tested.
        reason: Why nothing was tested; empty where something was.
    """

    test: str
    n: int
    n_against: int | None
    mean: float
    std: float
    interval: Interval
    g: float
    g_interval: Interval
    t: float
    p_value: float
    reason: str


def untested(
    reason: str, n: int, mean: float, std: float = math.nan, n_against: int | None = None
) -> MeanDifference:
    """The difference of which nothing can be tested, for a reason."""
    nothing = math.nan
    return MeanDifference(
        "", n, n_against, mean, std, UNKNOWN, nothing, UNKNOWN, nothing, nothing, reason
    )
