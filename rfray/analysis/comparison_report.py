"""Comparisons of settings as Markdown and as csv."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import pandas as pd

from rfray.analysis import presentation, schema
from rfray.analysis.comparisons import Comparison
from rfray.analysis.mean_difference import PAIRED_TEST, WELCH_TEST
from rfray.analysis.slots import CellNames
from rfray.analysis.values import show

COLUMNS = ("Difference", "95 % interval", "Hedges' g", "p", "Holm p", "Seeds", "Test")
"""Headings of the columns after the first, which names the network and the metric."""


@dataclass(frozen=True)
class Row:
    """One comparison as a line of a table.

    Attributes:
        what: The network, the stage and the metric.
        texts: The text in each of `COLUMNS`.
        values: The number that a reader sorts each column by; None if it has none.
        runs: Ids of the runs that were measured.
        note: Why nothing was tested, or what is missing.
    """

    what: str
    texts: tuple[str, ...]
    values: tuple[float | None, ...]
    runs: tuple[str, ...]
    note: str


def rows_by_setting(found: Sequence[Comparison], names: CellNames) -> dict[str, list[Row]]:
    """The lines of the table under each heading, such as `train.batch_size 64 against 128`."""
    return {
        heading: [_row(one, names) for one in group]
        for heading, group in groupby(
            found, lambda one: f"{one.axis} {show(one.value)} against {show(one.against)}"
        )
    }


def explained(found: Sequence[Comparison]) -> str:
    """What the numbers of comparisons of settings mean."""
    return (
        "Each value of a setting is compared with the first value, seed by seed, where all other "
        "settings are equal: the mean difference with its 95 % interval and the two-sided p of a "
        f"{PAIRED_TEST}-test, Holm-corrected for {presentation.tests_text(found[0].n_tests)}. "
        "Hedges' g is the mean difference divided by the standard deviation of the differences."
    )


def differences_explained(found: Sequence[Comparison], apart: Sequence[str]) -> str:
    """What the differences between studies mean, and which settings differ between the studies."""
    settings = "; ".join(apart) or "nothing"
    return (
        f"The mean of each study minus that of {show(found[0].against)}, where both have the same "
        f"stage on the same cell, with its 95 % interval and two-sided p of a {PAIRED_TEST}-test "
        f"over the seeds that both have, or of {WELCH_TEST}-test if they have no seed in common; "
        f"Holm-corrected for {presentation.tests_text(found[0].n_tests)}. Runs that both studies "
        f"share are not tested. Settings that differ between the studies: {settings}."
    )


def comparisons_markdown(found: Sequence[Comparison], names: CellNames, caption: str) -> str:
    """Comparisons as Markdown under a caption: one table for each pair of values."""
    parts = [caption]
    for heading, rows in rows_by_setting(found, names).items():
        lines = [[row.what, *row.texts] for row in rows]
        parts += [f"**{heading}**", presentation.markdown_table(["", *COLUMNS], 0, lines)]
        parts.append("\n".join(_notes(rows)))
    return "\n\n".join(part for part in parts if part) + "\n"


def _notes(rows: Sequence[Row]) -> list[str]:
    """Each note once, with the lines that it belongs to."""
    found: dict[str, list[str]] = {}
    for row in rows:
        found.setdefault(row.note, []).append(row.what)
    return [f"- {note}: {'; '.join(those)}" for note, those in found.items() if note]


def comparisons_form(found: Sequence[Comparison]) -> pd.DataFrame:
    """The comparisons in long form, one row for each.

    Columns: `axis value against stage parameter metric`, the axes that both sides share,
    `mean_difference std n n_against n_planned ci_low ci_high hedges_g g_ci_low g_ci_high test t
    p_value p_holm n_tests note`. `n_against` is blank if the values are paired.
    """
    shared = dict.fromkeys(axis for one in found for axis, _ in one.identity)
    rows = [
        {
            "axis": one.axis,
            "value": show(one.value),
            "against": show(one.against),
            "stage": one.quantity.stage,
            "parameter": one.quantity.parameter,
            "metric": one.quantity.metric,
            **{axis: dict(one.identity).get(axis) for axis in shared},
            "mean_difference": one.test.mean,
            "std": one.test.std,
            "n": one.test.n,
            "n_against": one.test.n_against,
            "n_planned": one.n_planned,
            "ci_low": one.test.interval[0],
            "ci_high": one.test.interval[1],
            "hedges_g": one.test.g,
            "g_ci_low": one.test.g_interval[0],
            "g_ci_high": one.test.g_interval[1],
            "test": one.test.test,
            "t": one.test.t,
            "p_value": one.test.p_value,
            "p_holm": one.p_holm,
            "n_tests": one.n_tests,
            "note": one.note,
        }
        for one in found
    ]
    return pd.DataFrame(rows).astype({"n_against": "Int64"})


def _row(one: Comparison, names: CellNames) -> Row:
    test = one.test
    spec = "+.2f" if one.quantity.metric in schema.RESTS_ON_TEST_ACCURACY else "+.3g"
    g = presentation.number(test.g, "+.2f")
    g_interval = presentation.range_text(*test.g_interval, "+.2f")
    return Row(
        what=f"{names.cell(one.identity)}: {one.quantity} {one.quantity.metric}",
        texts=(
            presentation.number(test.mean, spec),
            presentation.range_text(*test.interval, spec),
            g if g_interval == presentation.NOTHING else f"{g} ({g_interval})",
            presentation.probability_text(test.p_value),
            presentation.probability_text(one.p_holm),
            _seeds(one),
            test.test or presentation.NOTHING,
        ),
        values=(
            *map(_known, (test.mean, test.interval[0], test.g, test.p_value, one.p_holm)),
            one.n_tested,
            None,
        ),
        runs=one.runs,
        note=one.note,
    )


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value


def _seeds(one: Comparison) -> str:
    n, against = one.n_tested, one.test.n_against
    if against is not None:
        return f"{n} and {against}"
    return f"{n}" if n == one.n_planned else f"{n} of {one.n_planned}"
