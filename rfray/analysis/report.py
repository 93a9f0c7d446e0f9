"""From a study in MLflow to the files of a report: what `rfray analyze` calls."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from rfray.analysis import search_report
from rfray.analysis.block_trends import check_trends
from rfray.analysis.comparison_report import comparisons_form, comparisons_markdown
from rfray.analysis.comparisons import comparisons, differences
from rfray.analysis.contents import Contents
from rfray.analysis.expected import Gap, Progress, missing, progress
from rfray.analysis.figures import DrawnFigure, draw_figures
from rfray.analysis.figures.panels import StudyFiles
from rfray.analysis.figures.style import rendered
from rfray.analysis.formats import csv_text, latex_text, long_form, markdown_text, trend_form
from rfray.analysis.frame import StudyFrame, finished, read_frame
from rfray.analysis.html_report import html_text
from rfray.analysis.published import Published, load_published
from rfray.analysis.report_file import ReportSpec, check_names, read_layout
from rfray.analysis.samples import Measurements, read_histories
from rfray.analysis.several import expected_of_all, read_studies, settings_apart, studies_together
from rfray.analysis.summary import summary_text
from rfray.analysis.tables import NotInStudy, build_tables
from rfray.errors import UserError
from rfray.files.atomic import write_atomically

if TYPE_CHECKING:
    from rfray.tracking import Ledger

_LIST = ".rfray-files"
"""In a report's folder, the names of its files."""

_GAPS_SHOWN = 10


@dataclass(frozen=True)
class Report:
    """A report file with all that it refers to: its layout, and the published values."""

    path: Path
    layout: ReportSpec
    published: Published


@dataclass(frozen=True)
class Analysis:
    """What an analysis wrote into the folder `out`, and what is missing.

    `left_out` counts the runs that do not count, by kind. `not_in_study` are the tables and figures
    of the report for which the study has no runs, not even planned ones.
    """

    study: str
    out: Path
    written: tuple[Path, ...]
    progress: tuple[Progress, ...]
    gaps: tuple[Gap, ...]
    left_out: Mapping[str, int]
    not_in_study: tuple[NotInStudy, ...]


def load_report(path: Path) -> Report:
    """Reads a report file and the published values that it names.

    Raises:
        UserError: If one of them does not exist or does not have the right form.
    """
    layout = read_layout(path)
    return Report(path, layout, load_published(layout.published, path.parent))


def analyze(ledger: Ledger, study: str, report: Report, out: Path) -> Analysis:
    """Writes a report on a study, finished or not: its page, tables and figures.

    Everything is computed before the first file is written, so a failed analysis does not change
    the folder.

    The folder `out` gets `report.html`, `summary.md`, `tables/` and `figures/`; it is created if it
    does not exist.

    Raises:
        UserError: If the study is unknown or has no finished run, the report has a name that does
            not exist, or the folder cannot be written.
    """
    return _analyze(ledger, finished(read_frame(ledger, study)), report, out)


def compare(ledger: Ledger, studies: Sequence[str], report: Report, out: Path) -> Analysis:
    """Writes a report on several studies of one store, side by side, each against the first.

    Raises:
        UserError: As `analyze`; also if a study is named twice or two have nothing in common.
    """
    layout = studies_together(report.layout)
    frame = read_studies(ledger, studies)
    return _analyze(ledger, frame, replace(report, layout=layout), out)


def _analyze(ledger: Ledger, frame: StudyFrame, report: Report, out: Path) -> Analysis:
    layout = report.layout
    check_names(layout, report.path, frame.axes, _metrics(frame))
    check_trends(layout, report.path, frame.document.axes)
    layout = search_report.with_search_figure(layout, frame)
    expected = expected_of_all(frame)
    measurements = Measurements(frame, expected, read_histories(ledger, frame, layout))
    tables, absent = build_tables(layout, measurements, report.published)
    figures, undrawn = _figures(layout, StudyFiles(ledger, frame, expected))
    found = [gap for t in tables for gap in t.gaps] + [gap for f in figures for gap in f.gaps]
    gaps = tuple(dict.fromkeys([*missing(frame, expected), *found]))
    not_in_study = (*absent, *undrawn)
    contents = Contents(
        title=layout.title,
        frame=frame,
        expected=expected,
        tables=tables,
        figures=figures,
        not_in_study=not_in_study,
        gaps=gaps,
        comparisons=comparisons(measurements),
        searches=search_report.searches(frame, expected),
        differences=differences(measurements, layout) if frame.parts else (),
        apart=settings_apart(frame) if frame.parts else (),
    )
    pictures = {figure.id: rendered(figure.figure) for figure in figures}
    vectors = {name: picture["svg"] for name, picture in pictures.items()}
    files = {name: text.encode() for name, text in _table_texts(contents).items()}
    files |= {
        f"figures/{name}.{suffix}": content
        for name, picture in pictures.items()
        for suffix, content in picture.items()
    }
    files["summary.md"] = summary_text(contents).encode()
    files["report.html"] = html_text(contents, vectors).encode()
    return Analysis(
        study=frame.study,
        out=out,
        written=tuple(_write_all(out, files)),
        progress=tuple(progress(frame, expected)),
        gaps=gaps,
        left_out=Counter(entry.kind for entry in frame.dropped),
        not_in_study=not_in_study,
    )


def _table_texts(contents: Contents) -> dict[str, str]:
    """Every table in each of its formats, by the name of its file."""
    texts: dict[str, str] = {}
    for table in contents.tables:
        texts[f"{table.spec.id}.csv"] = csv_text(long_form(table))
        texts[f"{table.spec.id}.md"] = markdown_text(table)
        texts[f"{table.spec.id}.tex"] = latex_text(table)
    trends = [trend_form(table) for table in contents.tables if table.trends]
    if trends:
        texts["trends.csv"] = csv_text(pd.concat(trends, ignore_index=True))
    names = contents.frame.names
    for one in contents.compared:
        texts[f"{one.id}.csv"] = csv_text(comparisons_form(one.found))
        texts[f"{one.id}.md"] = comparisons_markdown(one.found, names, one.caption)
    if contents.searches:
        texts["search.csv"] = csv_text(search_report.searches_form(contents.searches))
        texts["search.md"] = search_report.searches_markdown(contents.searches, names)
    return {f"tables/{name}": text for name, text in texts.items()}


def _metrics(frame: StudyFrame) -> dict[str, frozenset[str]]:
    metrics: dict[str, frozenset[str]] = {}
    for slot, record in frame.kept.items():
        metrics[slot.stage] = metrics.get(slot.stage, frozenset()) | frozenset(record.metrics)
    return metrics


def _figures(layout: ReportSpec, study: StudyFiles) -> tuple[list[DrawnFigure], list[NotInStudy]]:
    results = [draw_figures(spec, study) for spec in layout.figures]
    drawn = [one for result in results if not isinstance(result, NotInStudy) for one in result]
    return drawn, [result for result in results if isinstance(result, NotInStudy)]


def _write_all(out: Path, files: Mapping[str, bytes]) -> list[Path]:
    """Writes files by path relative to `out`, each completely or not at all.

    Files of an earlier report that are not among them are removed; all other files stay.
    """
    listed = out / _LIST
    try:
        earlier = listed.read_text(encoding="utf-8").splitlines() if listed.is_file() else []
        for name, content in files.items():
            write_atomically(out / name, content)
        write_atomically(listed, "".join(f"{name}\n" for name in files))
        for name in set(earlier) - set(files):
            if (out / name).resolve().is_relative_to(out.resolve()):
                (out / name).unlink(missing_ok=True)
    except OSError as error:
        what = f"the report cannot be written: {error.strerror or error}"
        place = str(error.filename or out)
        raise UserError(what, where=place, do="choose another --out") from error
    return [out / name for name in files]


def analysis_lines(analysis: Analysis) -> Iterator[str]:
    """The first results that are missing, the runs left out, and where the report is."""
    for gap in analysis.gaps[:_GAPS_SHOWN]:
        yield f"missing: {gap}"
    if len(analysis.gaps) > _GAPS_SHOWN:
        yield f"missing: {len(analysis.gaps) - _GAPS_SHOWN} more, all named in report.html"
    if analysis.left_out:
        kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(analysis.left_out.items()))
        yield f"left out: {kinds} runs, each named in report.html"
    files, start = len(analysis.written), analysis.out / "report.html"
    yield f"{analysis.study}: wrote {files} files; start with {start}"


def analysis_json(analysis: Analysis) -> dict[str, Any]:
    """The same as data for JSON: files, progress of the stages, all that is missing."""
    return {
        "study": analysis.study,
        "out": str(analysis.out),
        "written": [str(path) for path in analysis.written],
        "stages": {one.stage: asdict(one) for one in analysis.progress},
        "missing": [asdict(gap) for gap in analysis.gaps],
        "left_out": dict(analysis.left_out),
        "not_in_study": {one.id: one.reason for one in analysis.not_in_study},
    }
