"""The summary: a study's tables, figures, gaps and provenance on one Markdown page."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rfray.analysis import schema
from rfray.analysis.expected import Expected, Gap, Progress, progress
from rfray.analysis.figures import DrawnFigure
from rfray.analysis.formats import markdown_text
from rfray.analysis.frame import StudyFrame, not_finite
from rfray.analysis.screening import moment
from rfray.analysis.tables import NotInStudy, Table


@dataclass(frozen=True)
class Contents:
    """All that a summary tells.

    Attributes:
        title: Heading of the report.
        frame: The study's frame.
        expected: Its slots.
        tables: Its tables.
        figures: Its figures.
        not_in_study: Tables and figures of the report that the study has nothing for.
        gaps: Everything that is missing, by name and reason.
    """

    title: str
    frame: StudyFrame
    expected: Expected
    tables: Sequence[Table]
    figures: Sequence[DrawnFigure]
    not_in_study: Sequence[NotInStudy]
    gaps: Sequence[Gap]


def summary_text(contents: Contents) -> str:
    """The summary as Markdown."""
    frame, expected = contents.frame, contents.expected
    parts = [
        f"# {contents.title}",
        _study(frame),
        _progress_table(progress(frame, expected)),
        _section("Tables", [_table(table) for table in contents.tables]),
        _section("Figures", [_figure(figure) for figure in contents.figures]),
        _list("Missing", [str(gap) for gap in contents.gaps]),
        _list("Values that are no number", _odd_values(frame)),
        _list("Beyond the recorded plan, and counted", _beyond(frame, expected)),
        _list("Runs left out", _left_out(frame)),
        _list("Not in this study", [f"{e.id}: {e.reason}" for e in contents.not_in_study]),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _study(frame: StudyFrame) -> str:
    records = list(frame.kept.values())
    source = (
        "what the runs show, for no plan is recorded" if frame.document.inferred else "recorded"
    )
    ended = max(record.end_time or record.start_time for record in records)
    lines = [
        f"- Study: `{frame.study}` in `{frame.tracking_uri}`",
        f"- Plan: {source}",
        f"- Runs: {len(records)} finished that count, {len(frame.dropped)} left out",
        f"- rfray: {_counts(r.tags.get(schema.VERSION_TAG) for r in records)}",
        f"- git: {_counts(r.tags.get(schema.GIT_TAG) for r in records)}",
        f"- Dates: {moment(min(r.start_time for r in records))} to {moment(ended)}",
    ]
    return "\n".join(lines)


def _counts(values: Iterable[str | None]) -> str:
    counts = Counter(value or "not recorded" for value in values)
    if len(counts) == 1:
        return next(iter(counts))
    return ", ".join(f"{value} ({count} runs)" for value, count in counts.most_common())


def _progress_table(stages: Iterable[Progress]) -> str:
    lines = ["| stage | planned | done | running | failed | not run |"]
    lines.append("|---|--:|--:|--:|--:|--:|")
    lines += [
        f"| {s.stage} | {s.planned} | {s.done} | {s.running} | {s.failed} | {s.other} |"
        for s in stages
    ]
    return "\n".join(lines)


def _section(heading: str, parts: Sequence[str]) -> str:
    return "\n\n".join([f"## {heading}", *parts]) if parts else ""


def _list(heading: str, lines: Sequence[str]) -> str:
    return f"## {heading} ({len(lines)})\n\n" + "\n".join(f"- {x}" for x in lines) if lines else ""


def _table(table: Table) -> str:
    return f"### {table.spec.id}\n\n{markdown_text(table).rstrip()}"


def _figure(figure: DrawnFigure) -> str:
    path = f"figures/{figure.id}"
    lines = [
        f"### {figure.id}",
        f"![{figure.title}]({path}.png)",
        f"{figure.title} ([pdf]({path}.pdf))",
    ]
    return "\n\n".join(lines)


def _odd_values(frame: StudyFrame) -> list[str]:
    return [f"{frame.names.slot(s)}: {metric} = {value}" for s, metric, value in not_finite(frame)]


def _beyond(frame: StudyFrame, expected: Expected) -> list[str]:
    return [frame.names.slot(slot) for slot in expected.beyond]


def _left_out(frame: StudyFrame) -> list[str]:
    return [
        f"{entry.record.name} (`{entry.record.run_id}`): {_why(entry.kind, entry.reason)}"
        for entry in frame.dropped
    ]


def _why(kind: str, reason: str) -> str:
    return reason if reason.startswith(kind) else f"{kind}: {reason}"
