"""What each search of a study chose, as Markdown and as csv."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pandas as pd

from rfray.analysis import schema
from rfray.analysis.comparison_report import Row
from rfray.analysis.expected import Expected
from rfray.analysis.frame import StudyFrame
from rfray.analysis.presentation import NOTHING, markdown_table, number
from rfray.analysis.report_file import FigureSpec, ReportSpec
from rfray.analysis.slots import CellNames, Identity

if TYPE_CHECKING:
    from rfray.tracking import RunRecord

_COUNTS = ("samples_tried", "samples_stopped", "samples_diverged")
_METRICS = ("validation_accuracy", "validation_loss", *_COUNTS)

EXPLAINED = (
    "The settings that each search chose for all seeds of its cells: those of its best sample on "
    "the validation images."
)
"""What the table shows, in one sentence."""


@dataclass(frozen=True)
class Chosen:
    """What one search chose.

    Attributes:
        identity: The cells that it chose for, without the seed.
        settings: The chosen values by dotted name, as the run records them.
        note: The run's remark, such as a choice at the edge of its range.
    """

    identity: Identity
    settings: dict[str, str]
    record: RunRecord
    note: str


def searches(frame: StudyFrame, expected: Expected) -> list[Chosen]:
    """What the searches that count chose, in the study's order."""
    return [
        Chosen(
            identity=slot.identity,
            settings={n: v for n, v in record.params.items() if "." in n and n not in frame.axes},
            record=record,
            note=record.tags.get(schema.REMARK_TAG, ""),
        )
        for slot in expected.slots
        if slot.stage == "search" and (record := frame.kept.get(slot))
    ]


def with_search_figure(layout: ReportSpec, frame: StudyFrame) -> ReportSpec:
    """The layout with a figure of the study's searches, if there are any and it has none yet."""
    named = {figure.id for figure in layout.figures}
    drawn = any(figure.kind == "search" for figure in layout.figures)
    if drawn or "search" in named or "search" not in frame.document.stages:
        return layout
    figure = FigureSpec(id="search", title="Search", kind="search")
    return layout.model_copy(update={"figures": (*layout.figures, figure)})


def headings(found: Sequence[Chosen]) -> list[str]:
    """The headings of the columns after the first, which names the cells."""
    return [*_names(found), "Validation accuracy", "Samples", "Stopped", "Diverged"]


def search_rows(found: Sequence[Chosen], names: CellNames) -> list[Row]:
    """The searches as lines of a table under `headings`."""
    settings = _names(found)
    return [
        Row(
            what=names.cell(one.identity),
            texts=(
                *(_short(one.settings.get(name)) for name in settings),
                number(one.record.metrics.get("validation_accuracy", math.nan), ".2f"),
                *(number(one.record.metrics.get(name, math.nan), ".0f") for name in _COUNTS),
            ),
            values=(None,) * len(headings(found)),
            runs=(one.record.run_id,),
            note=one.note,
        )
        for one in found
    ]


def searches_markdown(found: Sequence[Chosen], names: CellNames) -> str:
    """The table as Markdown, with the remarks of the searches below."""
    rows = search_rows(found, names)
    lines = [[row.what, *row.texts] for row in rows]
    parts = [EXPLAINED, markdown_table(["", *headings(found)], 0, lines)]
    parts.append("\n".join(f"- {row.what}: {row.note}" for row in rows if row.note))
    return "\n\n".join(part for part in parts if part) + "\n"


def searches_form(found: Sequence[Chosen]) -> pd.DataFrame:
    """The table in long form: the axes, each searched setting, the metrics, `run_id note`."""
    rows = [
        {
            **dict(one.identity),
            **one.settings,
            **{name: one.record.metrics.get(name) for name in _METRICS},
            "run_id": one.record.run_id,
            "note": one.note,
        }
        for one in found
    ]
    return pd.DataFrame(rows)


def _names(found: Sequence[Chosen]) -> list[str]:
    return list(dict.fromkeys(name for one in found for name in one.settings))


def _short(text: str | None) -> str:
    """A number with three digits; the csv file has all of them."""
    try:
        return NOTHING if text is None else f"{float(text):.3g}"
    except ValueError:
        return str(text)
