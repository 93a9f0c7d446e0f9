"""The report: one HTML page that holds all it shows and asks nothing of any network."""

from __future__ import annotations

import base64
import math
import re
from collections.abc import Iterable, Mapping
from functools import partial
from hashlib import sha256
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from rfray import __version__
from rfray.analysis.comparison_report import (
    COLUMNS,
    differences_explained,
    explained,
    rows_by_setting,
)
from rfray.analysis.contents import Contents, beyond_plan, odd_values, why
from rfray.analysis.entries import Entry
from rfray.analysis.expected import progress
from rfray.analysis.figures import DrawnFigure
from rfray.analysis.figures.style import colour
from rfray.analysis.frame import StudyFrame
from rfray.analysis.links import runs_link, ui_address, ui_command
from rfray.analysis.presentation import (
    blocks,
    cell_text,
    flaws,
    interval_text,
    number,
    published_text,
    remarks,
    sampling_error_text,
    size_heading,
    trends_across,
)
from rfray.analysis.provenance import facts
from rfray.analysis.report_file import MeasuredColumn
from rfray.analysis.search_report import EXPLAINED, headings, texts
from rfray.analysis.tables import Table
from rfray.analysis.values import show

_TEMPLATES = PackageLoader("rfray.analysis")
_CODE = re.compile(r"`([^`]*)`")


def html_text(contents: Contents, pictures: Mapping[str, bytes]) -> str:
    """The report as one self-contained page.

    Args:
        contents: What it tells.
        pictures: SVG of each figure, by the figure's id.
    """
    frame = contents.frame
    environment = Environment(
        loader=_TEMPLATES,
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["code"] = _with_code
    environment.globals["link"] = partial(runs_link, frame)
    script = _TEMPLATES.get_source(environment, "report.js")[0]
    return environment.get_template("report.html").render(
        script=Markup(script),  # noqa: S704 the package's own
        script_digest=f"sha256-{base64.b64encode(sha256(script.encode()).digest()).decode()}",
        runs=_runs(frame),
        title=contents.title,
        study=frame.study,
        version=__version__,
        ui=ui_address(frame.tracking_uri),
        ui_command=ui_command(frame.tracking_uri),
        served=frame.tracking_uri.startswith(("http://", "https://")),
        studies=[_study(one, contents) for one in frame.studies],
        tables=[_table(table) for table in contents.tables],
        searches=[
            (frame.names.cell(one.identity), texts(one, contents.searches), one.run, one.note)
            for one in contents.searches
        ],
        searched=headings(contents.searches),
        chosen=EXPLAINED,
        compared=[section for section in _compared(contents) if section["tables"]],
        comparison_columns=COLUMNS,
        figures=[_figure(figure, pictures[figure.id]) for figure in contents.figures],
        gaps=contents.gaps,
        odd=odd_values(frame),
        beyond=beyond_plan(contents),
        left_out=[(entry.record, why(entry)) for entry in frame.dropped],
        not_in_study=contents.not_in_study,
    )


def _with_code(text: str) -> Markup:
    """Escaped text in which `backticks` have become code."""
    return Markup(_CODE.sub(r"<code>\1</code>", str(escape(text))))  # noqa: S704 escaped above


def _runs(frame: StudyFrame) -> dict[str, Any]:
    """The names of all runs that the page links to, for what shows those behind a number."""
    return {
        "address": ui_address(frame.tracking_uri),
        "studies": [
            {"name": one.study, "experiment": one.experiment_id, "runs": _run_names(one)}
            for one in frame.studies
        ],
    }


def _run_names(one: StudyFrame) -> dict[str, str]:
    records = (*one.kept.values(), *(entry.record for entry in one.dropped))
    return {record.run_id: record.name for record in records}


def _study(one: StudyFrame, contents: Contents) -> dict[str, Any]:
    return {
        "name": one.study,
        "facts": facts(one),
        "axes": [(axis, ", ".join(map(show, v))) for axis, v in one.document.axes.items()],
        "stages": list(_stages(one)),
        "progress": progress(one, contents.expected_of(one)),
    }


def _compared(contents: Contents) -> Iterable[dict[str, Any]]:
    """The two kinds of comparisons: of studies, and of the values of settings."""
    names, apart = contents.frame.names, contents.apart
    for found, id_, title, explanation in (
        (
            contents.differences,
            "differences",
            "Differences between the studies",
            partial(differences_explained, apart=apart),
        ),
        (contents.comparisons, "comparisons", "Comparisons of settings", explained),
    ):
        yield {
            "id": id_,
            "title": title,
            "explained": explanation(found) if found else "",
            "tables": rows_by_setting(found, names),
        }


def _stages(frame: StudyFrame) -> Iterable[tuple[str, str]]:
    for stage, settings in frame.document.stages.items():
        yield stage, ", ".join(f"{name} {_plain(value)}" for name, value in settings.items())


def _plain(value: object) -> str:
    return " ".join(_plain(v) for v in value) if isinstance(value, list | tuple) else str(value)


def _table(table: Table) -> dict[str, Any]:
    return {
        "id": table.spec.id,
        "title": table.spec.title,
        "columns": [column.title for column in table.spec.columns],
        "blocks": [
            {
                "heading": block.heading,
                "trends": block.trends,
                "cells": [
                    {
                        "receptive_field": cell.receptive_field,
                        "size": _size(size_heading(table), cell.kernel_size),
                        "colour": _colour(cell.entries[0]),
                        "entries": [_entry(entry, table.sources) for entry in cell.entries],
                    }
                    for cell in block.cells
                ],
            }
            for block in blocks(table)
        ],
        "trends_across": trends_across(table),
        "remarks": remarks(table),
        "flaws": flaws(table),
    }


def _size(heading: str, size: str) -> str:
    return f"k = {size}" if heading == "k" else f"{heading} {size}"


def _colour(entry: Entry) -> str:
    """The colour of a cell's kernel size, as in the figures."""
    return colour(entry.colour_of)


def _entry(entry: Entry, sources: Iterable[str]) -> dict[str, Any]:
    """One number with all that stands beside it; its runs once each, in the order of the seeds."""
    return {
        "title": entry.column.title,
        "text": cell_text(entry),
        "value": None if math.isnan(entry.summary.mean) else entry.summary.mean,
        "runs": list(dict.fromkeys(run for runs in entry.runs.values() for run in runs)),
        "interval": "" if math.isnan(entry.summary.ci_low) else interval_text(entry),
        "sampling_error": "" if entry.test_images is None else sampling_error_text(entry),
        "published": [
            (source, published_text(entry, source))
            for source in sources
            if source in entry.published
        ],
        "complete": entry.summary.n == entry.n_planned,
        "over": entry.column.over if isinstance(entry.column, MeasuredColumn) else "seeds",
        "values": [
            (_seed(seed), number(value, entry.column.format), entry.runs.get(seed, ()))
            for seed, value in entry.values.items()
        ],
    }


def _seed(seed: int | None) -> str:
    return "value" if seed is None else f"seed {seed}"


def _figure(figure: DrawnFigure, picture: bytes) -> dict[str, Any]:
    width, height = figure.figure.get_size_inches()
    return {
        "id": figure.id,
        "title": figure.title,
        "source": f"data:image/svg+xml;base64,{base64.b64encode(picture).decode()}",
        "width": round(float(width) * 96),
        "height": round(float(height) * 96),
        "gaps": len(figure.gaps),
    }
