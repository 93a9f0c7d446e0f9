"""What each search of a study chose, as Markdown and as csv."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from rfray.analysis import schema
from rfray.analysis.expected import Expected
from rfray.analysis.frame import StudyFrame
from rfray.analysis.presentation import NOTHING, markdown_table
from rfray.analysis.report_file import FigureSpec, ReportSpec
from rfray.analysis.slots import CellNames, Identity

_COUNTS = ("samples_tried", "samples_stopped", "samples_diverged")

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
        metrics: Its latest metrics: `validation_accuracy validation_loss`, and about its samples
            `samples_tried samples_stopped samples_diverged`.
        run: Id of its run.
        note: The run's remark, such as a choice at the edge of its range.
    """

    identity: Identity
    settings: dict[str, str]
    metrics: dict[str, float]
    run: str
    note: str


def searches(frame: StudyFrame, expected: Expected) -> list[Chosen]:
    """What the searches that count chose, in the study's order."""
    return [
        Chosen(
            identity=slot.identity,
            settings={n: v for n, v in record.params.items() if "." in n and n not in frame.axes},
            metrics=dict(record.metrics),
            run=record.run_id,
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


def texts(one: Chosen, found: Sequence[Chosen]) -> list[str]:
    """The texts of one search under `headings`."""
    accuracy = one.metrics.get("validation_accuracy")
    counts = (one.metrics.get(name) for name in _COUNTS)
    return [
        *(_short(one.settings.get(name)) for name in _names(found)),
        NOTHING if accuracy is None else f"{accuracy:.2f}",
        *(NOTHING if count is None else f"{count:.0f}" for count in counts),
    ]


def searches_markdown(found: Sequence[Chosen], names: CellNames) -> str:
    """The table as Markdown, with the remarks of the searches below."""
    lines = [[names.cell(one.identity), *texts(one, found)] for one in found]
    parts = [EXPLAINED, markdown_table(["", *headings(found)], 0, lines)]
    parts.append("\n".join(f"- {names.cell(o.identity)}: {o.note}" for o in found if o.note))
    return "\n\n".join(part for part in parts if part) + "\n"


def searches_form(found: Sequence[Chosen]) -> pd.DataFrame:
    """The table in long form: the axes, each searched setting, the metrics, `run_id note`."""
    rows = [
        {
            **dict(one.identity),
            **one.settings,
            **{n: one.metrics.get(n) for n in ("validation_accuracy", "validation_loss", *_COUNTS)},
            "run_id": one.run,
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
