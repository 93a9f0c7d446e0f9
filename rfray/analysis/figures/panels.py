"""Panels: the contents of one figure by kernel size, and what is missing in it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Generic, TypeVar

from rfray.analysis.artifacts import ArtifactError
from rfray.analysis.expected import Expected, Gap, absence, gap_at
from rfray.analysis.frame import StudyFrame
from rfray.analysis.slots import Identity, Slot, admits, size_words
from rfray.analysis.values import Scalar, is_finite

if TYPE_CHECKING:
    from rfray.tracking import Ledger, RunRecord

Content = TypeVar("Content")
Read = Callable[["RunRecord"], Content]
"""Reads a result of one run; raises ArtifactError if the run does not have it."""

Reader = Callable[["Ledger", "Sequence[RunRecord]"], Read[Content]]
"""Makes the function that reads one run, from the ledger and all runs that will be read."""

Where = Mapping[str, tuple[Scalar, ...]]
"""The values that an axis may have; an axis that is not named may have every value."""

_Place = tuple[int, Scalar | None]


@dataclass(frozen=True)
class Panel(Generic[Content]):
    """One kernel size and one value of the stage's own parameter, in one figure.

    Attributes:
        kernel_size: Kernel size of the pool, or the number that replaces it if the study changes
            the receptive field along another axis.
        receptive_field: Theoretical receptive field; None if no run records it.
        parameter: The stage's own parameter, such as `init`; None if it has none.
        contents: The results of the runs, in the order of their seeds.
        gaps: What is missing, by name and reason.
        size: The value that changes the receptive field, as text.
    """

    kernel_size: int
    receptive_field: int | None
    parameter: Scalar | None
    contents: tuple[Content, ...]
    gaps: tuple[Gap, ...]
    size: str = ""

    @property
    def title(self) -> str:
        """`RF 181 (k = 2)`, with the number of results if some are missing."""
        there = len(self.contents)
        planned = there + len(self.gaps)
        few = f", {there} of {planned}" if 0 < there < planned else ""
        return f"{self.label}{few}"

    @property
    def label(self) -> str:
        """`RF 181 (k = 2)`, or `k = 2` if no run records the receptive field."""
        size = self.size or f"k = {self.kernel_size}"
        return size if self.receptive_field is None else f"RF {self.receptive_field} ({size})"


def missing_lines(panels: Sequence[Panel[Content]]) -> list[str]:
    """What is missing in panels that are drawn over each other: one line for each such panel."""
    return [
        f"{panel.title} seeds" if panel.contents else f"{panel.label}: {panel.gaps[0].reason}"
        for panel in panels
        if panel.gaps
    ]


def reasons(panels: Iterable[Panel[Content]]) -> list[str]:
    """The reason of each gap in the panels."""
    return [gap.reason for panel in panels for gap in panel.gaps]


@dataclass(frozen=True)
class Drawing(Generic[Content]):
    """The panels of one figure, or of one part of a figure.

    Attributes:
        identity: The axes and values of its cells, without the kernel size.
        panels: Its panels by kernel size, then parameter in the study's order.
        chance: Accuracy of guessing on its data set, in percent; None if that is not recorded.
        heading: The values in which it differs from the other parts of its figure; empty if there
            are none.
    """

    identity: Identity
    panels: tuple[Panel[Content], ...]
    chance: float | None = None
    heading: str = ""

    @property
    def gaps(self) -> list[Gap]:
        """What is missing in any panel."""
        return [gap for panel in self.panels for gap in panel.gaps]


def panels_of(drawings: Iterable[Drawing[Content]]) -> list[Panel[Content]]:
    """The panels of all drawings."""
    return [panel for drawing in drawings for panel in drawing.panels]


def sizes_of(drawings: Iterable[Drawing[Content]]) -> list[int]:
    """The kernel sizes of all drawings, ascending."""
    return sorted({panel.kernel_size for panel in panels_of(drawings)})


def parameters_of(drawings: Iterable[Drawing[Content]]) -> list[Scalar | None]:
    """The values of the stage's own parameter in all drawings, in the study's order."""
    return list(dict.fromkeys(panel.parameter for panel in panels_of(drawings)))


@dataclass(frozen=True)
class StudyFiles:
    """A study with the ledger that gives its artifacts."""

    ledger: Ledger
    frame: StudyFrame
    expected: Expected


def artifact(name: str, read: Callable[[Path], Content]) -> Reader[Content]:
    """A reader of the runs' artifact `name`, of one file at a time."""

    def read_artifact(ledger: Ledger, record: RunRecord) -> Content:
        path = ledger.artifact(record, name)
        if path is None:
            raise ArtifactError(f"has no artifact {name}")
        return read(path)

    return lambda ledger, records: partial(read_artifact, ledger)


def latest(metric: str) -> Reader[float]:
    """A reader of the latest value of the runs' metric."""

    def read_metric(record: RunRecord) -> float:
        if metric not in record.metrics:
            raise ArtifactError(f"has no metric {metric}")
        value = record.metrics[metric]
        if not is_finite(value):
            raise ArtifactError(f"has {metric} = {value}")
        return value

    return lambda ledger, records: read_metric


def collect(
    stage: str, reader: Reader[Content], where: Where, study: StudyFiles
) -> list[Drawing[Content]]:
    """A stage's results: one drawing for the cells that differ in kernel size and seed only."""
    grouped: dict[Identity, dict[_Place, list[Slot]]] = {}
    records: list[RunRecord] = []
    for slot in study.expected.slots:
        if slot.stage == stage and admits(where, slot.identity):
            places = grouped.setdefault(study.frame.block(slot.identity), {})
            place = (study.frame.document.stand_in(slot.identity), slot.parameter)
            places.setdefault(place, []).append(slot)
            records += [study.frame.kept[slot]] if slot in study.frame.kept else []
    read = reader(study.ledger, records)
    drawings = []
    for identity, places in grouped.items():
        ordered = sorted(places, key=lambda place: place[0])
        panels = tuple(_panel(read, place, places[place], study) for place in ordered)
        test = study.frame.document.test_images(identity)
        drawings.append(Drawing(identity, panels, None if test is None else test.chance))
    return drawings


def _panel(
    read: Read[Content], place: _Place, slots: Sequence[Slot], study: StudyFiles
) -> Panel[Content]:
    ordered = sorted(slots, key=lambda slot: slot.seed or 0)
    contents: list[Content] = []
    gaps: list[Gap] = []
    for slot in ordered:
        try:
            contents.append(_content(read, slot, study))
        except ArtifactError as error:
            gaps.append(gap_at(slot, str(error), study.frame))
    fields = study.frame.receptive_fields(ordered[0].identity)
    return Panel(
        kernel_size=place[0],
        receptive_field=next(iter(fields)) if len(fields) == 1 else None,
        parameter=place[1],
        contents=tuple(contents),
        gaps=tuple(gaps),
        size=size_words(ordered[0].identity),
    )


def _content(read: Read[Content], slot: Slot, study: StudyFiles) -> Content:
    record = study.frame.kept.get(slot)
    if record is None:
        raise ArtifactError(absence(slot, study.frame))
    return read(record)
