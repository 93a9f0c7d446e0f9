"""The summary: a study's tables, figures, gaps and provenance on one Markdown page."""

from collections.abc import Sequence
from dataclasses import astuple

from rfray.analysis.comparison_report import comparisons_markdown
from rfray.analysis.contents import Contents, beyond_plan, odd_values, why
from rfray.analysis.expected import progress
from rfray.analysis.figures import DrawnFigure
from rfray.analysis.formats import markdown_text
from rfray.analysis.frame import StudyFrame
from rfray.analysis.presentation import markdown_table
from rfray.analysis.provenance import facts
from rfray.analysis.search_report import searches_markdown

_PROGRESS = ("stage", "planned", "done", "running", "failed", "interrupted", "not run")


def summary_text(contents: Contents) -> str:
    """The summary as Markdown."""
    frame, found = contents.frame, contents.searches
    parts = [
        f"# {contents.title}",
        *(part for one in frame.studies for part in _study(one, contents)),
        _section("Tables", [f"### {t.spec.id}\n\n{markdown_text(t)}" for t in contents.tables]),
        _section("Searches", [searches_markdown(found, frame.names)] if found else []),
        *(
            _section(one.title, [comparisons_markdown(one.found, frame.names, one.caption)])
            for one in contents.compared
        ),
        _section("Figures", [_figure(figure) for figure in contents.figures]),
        _list("Missing", [str(gap) for gap in contents.gaps]),
        _list("Values that are not numbers", odd_values(frame)),
        _list("Not in the recorded plan, but counted", beyond_plan(contents)),
        _list(
            "Runs left out",
            [f"{e.record.name} (`{e.record.run_id}`): {why(e)}" for e in frame.dropped],
        ),
        _list("Not in this study", [f"{e.id}: {e.reason}" for e in contents.not_in_study]),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _study(one: StudyFrame, contents: Contents) -> list[str]:
    """The origin of one study's numbers and its progress; with its name if there are several."""
    heading = [f"## {one.study}"] if contents.frame.parts else []
    origin = "\n".join(f"- {what}: {value}" for what, value in facts(one))
    rows = [[str(n) for n in astuple(s)] for s in progress(one, contents.expected_of(one))]
    return [*heading, origin, markdown_table(_PROGRESS, 0, rows)]


def _section(heading: str, parts: Sequence[str]) -> str:
    return "\n\n".join([f"## {heading}", *map(str.rstrip, parts)]) if parts else ""


def _list(heading: str, lines: Sequence[str]) -> str:
    return f"## {heading} ({len(lines)})\n\n" + "\n".join(f"- {x}" for x in lines) if lines else ""


def _figure(figure: DrawnFigure) -> str:
    title, path = figure.title, f"figures/{figure.id}"
    return f"### {figure.id}\n\n![{title}]({path}.png)\n\n{title} ([pdf]({path}.pdf))"
