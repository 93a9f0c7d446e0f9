"""The contents of a report, for pages of any format."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rfray.analysis import schema
from rfray.analysis.comparison_report import differences_explained, explained
from rfray.analysis.comparisons import Comparison
from rfray.analysis.expected import Expected, Gap
from rfray.analysis.figures import DrawnFigure
from rfray.analysis.frame import StudyFrame, not_finite
from rfray.analysis.screening import LeftOut
from rfray.analysis.search_report import Chosen
from rfray.analysis.tables import NotInStudy, Table


@dataclass(frozen=True)
class Compared:
    """Comparisons of one kind.

    Attributes:
        id: Name of their files.
        title: Their heading.
        caption: What their numbers are.
        found: The comparisons, at least one.
    """

    id: str
    title: str
    caption: str
    found: Sequence[Comparison]


@dataclass(frozen=True)
class Contents:
    """All contents of a report.

    Attributes:
        title: Heading of the report.
        frame: The study's frame.
        expected: Its slots.
        tables: Its tables.
        figures: Its figures.
        not_in_study: Tables and figures of the report for which the study has no runs, not even
            planned ones.
        gaps: All that is missing, by name and reason.
        comparisons: Values of settings, compared seed by seed.
        searches: What each search chose.
        differences: Each study against the first, if there are several.
        apart: Settings that differ between the studies.
    """

    title: str
    frame: StudyFrame
    expected: Expected
    tables: Sequence[Table]
    figures: Sequence[DrawnFigure]
    not_in_study: Sequence[NotInStudy]
    gaps: Sequence[Gap]
    comparisons: Sequence[Comparison]
    searches: Sequence[Chosen] = ()
    differences: Sequence[Comparison] = ()
    apart: Sequence[str] = ()

    def expected_of(self, study: StudyFrame) -> Expected:
        """The slots of one of the frame's studies."""
        if not self.frame.parts:
            return self.expected
        planned, beyond = (
            tuple(slot for slot in slots if dict(slot.identity).get(schema.STUDY) == study.study)
            for slots in (self.expected.planned, self.expected.beyond)
        )
        return Expected(planned, beyond)

    @property
    def compared(self) -> list[Compared]:
        """The differences between studies, then the comparisons of settings, if there are any."""
        sections = []
        if self.differences:
            caption = differences_explained(self.differences, self.apart)
            title = "Differences between the studies"
            sections.append(Compared("differences", title, caption, self.differences))
        if self.comparisons:
            caption, title = explained(self.comparisons), "Comparisons of settings"
            sections.append(Compared("comparisons", title, caption, self.comparisons))
        return sections


def odd_values(frame: StudyFrame) -> list[str]:
    """Each metric whose latest value is not a finite number, with the name of its slot."""
    return [f"{frame.names.slot(s)}: {metric} = {value}" for s, metric, value in not_finite(frame)]


def beyond_plan(contents: Contents) -> list[str]:
    """The name of each result that counts although the recorded plan does not have it."""
    return [contents.frame.names.slot(slot) for slot in contents.expected.beyond]


def why(entry: LeftOut) -> str:
    """Why a run is left out: the kind, then the reason."""
    if entry.reason.startswith(entry.kind):
        return entry.reason
    return f"{entry.kind}: {entry.reason}"
