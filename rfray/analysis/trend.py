"""The trend test: do values fall, or rise, as the receptive field grows?"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from scipy.stats import kendalltau

from rfray.analysis.report_file import Hypothesis

TREND_TEST = "Jonckheere–Terpstra"
"""Jonckheere, Biometrika 41 (1954) 133; Terpstra, Indagationes Mathematicae 14 (1952) 327."""


@dataclass(frozen=True)
class Trend:
    """A one-sided Jonckheere–Terpstra test over the receptive fields.

    Attributes:
        hypothesis: What the values are held to do as the receptive field grows.
        fields: The receptive fields that have values, ascending.
        n: Number of values.
        tau: Kendall's τ-b between receptive field and value, from −1 to 1: the size of the trend;
            NaN where nothing was tested.
        p_value: Probability of such a trend or a stronger one if there were none; NaN where
            nothing was tested.
        reason: Why nothing was tested; empty where something was.
    """

    hypothesis: Hypothesis
    fields: tuple[int, ...]
    n: int
    tau: float
    p_value: float
    reason: str


def trend_over_fields(
    groups: Sequence[tuple[int | None, Sequence[float]]], hypothesis: Hypothesis
) -> Trend:
    """Tests whether values fall (or rise) from each receptive field to the next.

    The samples of the receptive fields are taken as independent and may be of unequal size, so a
    seed that is missing somewhere still counts elsewhere; nothing is asked of their distribution.
    Jonckheere's statistic is Kendall's S between group and value, so the p-value is that of
    Kendall's τ-b, with its variance corrected for ties: exact where no two values share a
    receptive field, else by the normal approximation.

    Args:
        groups: (receptive field, values) of each cell that has finite values.
        hypothesis: The direction.
    """
    known = sorted((field, values) for field, values in groups if field is not None)
    fields = tuple(dict.fromkeys(field for field, _ in known))
    pairs = [(field, value) for field, values in known for value in values]
    reason = _untestable(len(known) < len(groups), fields, pairs)
    if reason:
        return Trend(hypothesis, fields, len(pairs), math.nan, math.nan, reason)
    side = "less" if hypothesis == "falls" else "greater"
    result = kendalltau(*zip(*pairs, strict=True), alternative=side)
    tau, p_value = float(result.statistic), float(result.pvalue)
    return Trend(hypothesis, fields, len(pairs), tau, p_value, "")


def untested(
    groups: Sequence[tuple[int | None, Sequence[float]]], hypothesis: Hypothesis, reason: str
) -> Trend:
    """The trend of values that say nothing of one, for a reason that the values do not show."""
    fields = tuple(sorted({field for field, _ in groups if field is not None}))
    count = sum(len(values) for _, values in groups)
    return Trend(hypothesis, fields, count, math.nan, math.nan, reason)


def _untestable(
    some_unknown: bool, fields: Sequence[int], pairs: Sequence[tuple[int, float]]
) -> str:
    if some_unknown:
        return "a receptive field is not recorded"
    if len(fields) < 2:
        return f"{len(fields)} receptive field{'' if len(fields) == 1 else 's'} with values"
    if len({value for _, value in pairs}) == 1:
        return "all values are equal"
    return ""
