"""What difference between two groups a test can find with so many values."""

from __future__ import annotations

import math
from dataclasses import dataclass

LEVEL = 0.05
"""Probability of finding a difference where there is none, both directions together."""

POWER = 0.8
"""Probability of finding a difference of the size that a test resolves."""

FEWEST_PAIRS = 3
"""Under these the analysis makes no paired test."""


@dataclass(frozen=True)
class Resolution:
    """The smallest true difference that t-tests of two settings find with probability `POWER`.

    Attributes:
        unpaired: Two independent samples: in standard deviations within one setting.
        paired: The same seeds in both: in standard deviations of the differences between the two;
            None under `FEWEST_PAIRS` values.
    """

    unpaired: float
    paired: float | None


def resolution(n: int) -> Resolution:
    """What n values of each of two settings can resolve, two-sided at `LEVEL`.

    Cohen, Statistical Power Analysis for the Behavioral Sciences, 2nd ed. (1988), chapter 2. A true
    difference moves Student's t to a noncentral one; sought is the noncentrality at which it passes
    the critical value with probability `POWER`. (That it passes the one on the other side is left
    out: its probability is below 1e-5.)

    Raises:
        ValueError: If n < 2: no deviation is known, so nothing can be tested.
    """
    if n < 2:
        raise ValueError(f"{n} value resolves no difference")
    paired = _noncentrality(n - 1) / math.sqrt(n) if n >= FEWEST_PAIRS else None
    return Resolution(_noncentrality(2 * n - 2) / math.sqrt(n / 2), paired)


def _noncentrality(degrees: int) -> float:
    from scipy.special import nctdtrinc, stdtrit

    return float(nctdtrinc(degrees, 1 - POWER, stdtrit(degrees, 1 - LEVEL / 2)))
