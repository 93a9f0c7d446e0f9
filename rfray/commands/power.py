"""The smallest difference between two groups that a test can find with n values of each."""

import math
from dataclasses import dataclass

LEVEL = 0.05
"""Significance level, two-sided: the probability of finding a difference where there is none."""

POWER = 0.8
"""Probability of finding a true difference of the size in `Resolution`."""

FEWEST_PAIRS = 3
"""With fewer pairs the analysis makes no paired test."""


@dataclass(frozen=True)
class Resolution:
    """The smallest true difference that t-tests of two settings find with probability `POWER`.

    Attributes:
        unpaired: For two independent samples, in standard deviations within one setting.
        paired: For pairs with the same seed, in standard deviations of the differences; None with
            fewer than `FEWEST_PAIRS` pairs.
    """

    unpaired: float
    paired: float | None


def resolution(n: int) -> Resolution:
    """The smallest difference that a test with n values of each setting finds, at `LEVEL`.

    Cohen, Statistical Power Analysis for the Behavioral Sciences, 2nd ed. (1988), chapter 2. With a
    true difference the test statistic has a noncentral t distribution. The result is the
    noncentrality at which it exceeds the critical value with probability `POWER`. (The probability
    to exceed the critical value on the other side is below 1e-5 and left out.)

    Raises:
        ValueError: If n < 2: without a standard deviation nothing can be tested.
    """
    if n < 2:
        raise ValueError(f"{n} value resolves no difference")
    paired = _noncentrality(n - 1) / math.sqrt(n) if n >= FEWEST_PAIRS else None
    return Resolution(_noncentrality(2 * n - 2) / math.sqrt(n / 2), paired)


def _noncentrality(degrees: int) -> float:
    from scipy.special import nctdtrinc, stdtrit

    return float(nctdtrinc(degrees, 1 - POWER, stdtrit(degrees, 1 - LEVEL / 2)))
