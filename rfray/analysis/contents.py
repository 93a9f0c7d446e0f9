"""The contents of a report, for pages of any format."""

from collections.abc import Sequence
from dataclasses import dataclass

from rfray.analysis.comparison_report import differences_explained, explained
from rfray.analysis.comparisons import Comparison
from rfray.analysis.expected import Expected, Gap, expected_slots
from rfray.analysis.figures import DrawnFigure
from rfray.analysis.frame import StudyFrame, not_finite
from rfray.analysis.screening import LeftOut
from rfray.analysis.search_report import Chosen
from rfray.analysis.tables import NotInStudy, Table


@dataclass(frozen=True)
class Compared:
    """Comparisons of one kind, at least one; `id` is the name of their files."""

    id: str
    title: str
    caption: str
    found: Sequence[Comparison]


@dataclass(frozen=True)
class Contents:
    """All contents of a report.

    If there are several studies, `differences` are those of each from the first, and `apart` are
    the settings that differ between them.
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
        return expected_slots(study) if self.frame.parts else self.expected

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
