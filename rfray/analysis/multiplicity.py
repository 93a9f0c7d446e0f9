"""Many tests at once: p-values that hold for all of them together."""

from __future__ import annotations

import math
from collections.abc import Sequence


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values adjusted for the number of tests in the family by Holm's step-down procedure.

    The smallest of m is multiplied by m, the next by m − 1 and so on, none below the one before it:
    where every one up to α is called a finding, the probability of any false one is at most α,
    however the tests depend on each other (Holm, Scandinavian Journal of Statistics 6 (1979) 65).

    Args:
        p_values: One a test; NaN for what was not tested, which does not count.

    Returns:
        The adjusted p-values in the same order, NaN where there was none.
    """
    from statsmodels.stats.multitest import multipletests

    tested = [place for place, p_value in enumerate(p_values) if not math.isnan(p_value)]
    adjusted = [math.nan] * len(p_values)
    if tested:
        found = multipletests([p_values[place] for place in tested], method="holm")[1]
        for place, p_value in zip(tested, found, strict=True):
            adjusted[place] = float(p_value)
    return adjusted
