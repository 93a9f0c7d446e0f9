"""The trend test: do values fall, or rise, as a setting grows?"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from scipy.stats import kendalltau, theilslopes

from rfray.analysis.report_file import RECEPTIVE_FIELD, Hypothesis
from rfray.analysis.statistics import FEWEST_FOR_INTERVAL
from rfray.analysis.values import show

TREND_TEST = "Jonckheere–Terpstra"
"""Jonckheere, Biometrika 41 (1954) 133; Terpstra, Indagationes Mathematicae 14 (1952) 327."""


Per = Literal["doubling", "unit"]
"""The change of the level that a slope is given for: a doubling if all levels are above 0, else one
unit."""


@dataclass(frozen=True)
class Slope:
    """The slope of a trend by Theil and Sen: the median of the slopes between all pairs of values.

    Sen, Journal of the American Statistical Association 63 (1968) 1379, which allows equal levels.
    It is in units of the value, with its 95 % interval: NaN for fewer than three values. All are
    NaN if nothing was tested.
    """

    per: Per
    value: float = math.nan
    low: float = math.nan
    high: float = math.nan


@dataclass(frozen=True)
class Trend:
    """A one-sided Jonckheere–Terpstra test over the levels of an axis.

    Attributes:
        hypothesis: Whether the values are expected to fall or to rise as the level grows.
        over: The axis: the receptive field, or the name of another axis.
        levels: The values of the axis at which something was measured, ascending.
        tau: Kendall's τ-b between level and value, from −1 to 1: the strength of the trend; NaN if
            nothing was tested.
        p_value: Probability of a trend at least this strong if there were none; NaN if nothing was
            tested.
        reason: Why nothing was tested; empty if something was.
    """

    hypothesis: Hypothesis
    over: str
    levels: tuple[float, ...]
    n: int
    slope: Slope
    tau: float = math.nan
    p_value: float = math.nan
    reason: str = ""


def trend_over(
    over: str,
    groups: Sequence[tuple[float | None, Sequence[float]]],
    hypothesis: Hypothesis,
    reason: str = "",
) -> Trend:
    """Tests whether values fall (or rise) from each level to the next.

    It assumes that the samples of the levels are independent, and nothing about their distribution.
    They may have different sizes: a seed that is missing at one level counts at the others.
    Jonckheere's statistic is Kendall's S between level and value. So the p-value is that of
    Kendall's τ-b, with its variance corrected for ties: exact if no two values have the same level,
    else by the normal approximation. If there is a known `reason` why the values mean nothing,
    nothing is tested.

    `groups` are (level, values) of each cell that has finite values; None for an unknown level.
    """
    known = sorted((level, values) for level, values in groups if level is not None)
    levels = tuple(dict.fromkeys(level for level, _ in known))
    pairs = [(level, value) for level, values in known for value in values]
    reason = reason or _untestable(len(known) < len(groups), levels, pairs, over)
    if reason:
        return Trend(hypothesis, over, levels, len(pairs), Slope(_per(levels)), reason=reason)
    side = "less" if hypothesis == "falls" else "greater"
    result = kendalltau(*zip(*pairs, strict=True), alternative=side)
    tau, p_value = float(result.statistic), float(result.pvalue)
    return Trend(hypothesis, over, levels, len(pairs), _slope(pairs), tau, p_value)


def _slope(pairs: Sequence[tuple[float, float]]) -> Slope:
    levels, values = zip(*pairs, strict=True)
    per = _per(levels)
    steps = [math.log2(level) for level in levels] if per == "doubling" else levels
    found = theilslopes(values, steps, alpha=0.95)
    ends = (found.low_slope, found.high_slope) if len(pairs) >= FEWEST_FOR_INTERVAL else ()
    return Slope(per, float(found.slope), *map(float, ends))


def _per(levels: Sequence[float]) -> Per:
    return "doubling" if all(level > 0 for level in levels) else "unit"


def _untestable(
    some_unknown: bool, levels: Sequence[float], pairs: Sequence[tuple[float, float]], over: str
) -> str:
    if some_unknown:
        return f"a {_named(over)} is not recorded"
    if not levels:
        return "no values"
    if len(levels) == 1:
        return f"only {_named(over)} {show(levels[0])} has values"
    if len({value for _, value in pairs}) == 1:
        return "all values are equal"
    return ""


def _named(over: str) -> str:
    return "receptive field" if over == RECEPTIVE_FIELD else over
