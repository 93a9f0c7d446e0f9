"""Panels: what one figure shows, kernel size by kernel size, with what is missing in it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
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
"""Reads what one run left."""

Reader = Callable[["Ledger", "Sequence[RunRecord]"], Read[Content]]
"""Given the ledger and the runs that will be read, what reads one of them; that raises an
ArtifactError where a run has not left what it should."""

_Place = tuple[int, Scalar | None]


@dataclass(frozen=True)
class Panel(Generic[Content]):
    """One kernel size, and one value of the stage's own parameter, of one figure.

    Attributes:
        kernel_size: Kernel size of the pool, or what stands for it where the study changes the
            field along another axis.
        receptive_field: Theoretical receptive field; None if no run records it.
        parameter: The stage's own parameter, such as `init`; None if it has none.
        contents: What the runs left, in the order of their seeds.
        gaps: What is missing, by name and reason.
        size: The value of the axis along which the study changes the field, as a reader writes it.
    """

    kernel_size: int
    receptive_field: int | None
    parameter: Scalar | None
    contents: tuple[Content, ...]
    gaps: tuple[Gap, ...]
    size: str = ""

    @property
    def title(self) -> str:
        """`RF 181 (k = 2)`, and how much of it is there if not all is."""
        there = len(self.contents)
        planned = there + len(self.gaps)
        few = f", {there} of {planned}" if 0 < there < planned else ""
        return f"{self.label}{few}"

    @property
    def label(self) -> str:
        """`RF 181 (k = 2)`, or `k = 2` where no run records the receptive field."""
        size = self.size or f"k = {self.kernel_size}"
        return size if self.receptive_field is None else f"RF {self.receptive_field} ({size})"


def missing_lines(panels: Sequence[Panel[Content]]) -> list[str]:
    """What an overlay of panels cannot show to be missing, a line a panel."""
    return [
        f"{panel.title} seeds" if panel.contents else f"{panel.label}: {panel.gaps[0].reason}"
        for panel in panels
        if panel.gaps
    ]


def reasons(panels: Iterable[Panel[Content]]) -> list[str]:
    """Why what is missing in panels is missing."""
    return [gap.reason for panel in panels for gap in panel.gaps]


@dataclass(frozen=True)
class Drawing(Generic[Content]):
    """The panels of one figure, or of one part of it that stands beside others of its kind.

    Attributes:
        identity: What the figure is of: the axes of its cells but the kernel size.
        panels: Its panels by kernel size, then parameter in the study's order.
        chance: Accuracy of guessing on its data set, per cent; None where that is not recorded.
        heading: What sets it apart from those that it stands beside in one figure; empty where it
            stands alone.
    """

    identity: Identity
    panels: tuple[Panel[Content], ...]
    chance: float | None = None
    heading: str = ""

    @property
    def gaps(self) -> list[Gap]:
        """What is missing in any panel."""
        return [gap for panel in self.panels for gap in panel.gaps]

    def panel(self, kernel_size: int, parameter: Scalar | None) -> Panel[Content] | None:
        """The panel of a kernel size and a parameter; None if the study has none."""
        found = {(one.kernel_size, one.parameter): one for one in self.panels}
        return found.get((kernel_size, parameter))


def panels_of(drawings: Iterable[Drawing[Content]]) -> list[Panel[Content]]:
    """The panels of several drawings, one drawing after the other."""
    return [panel for drawing in drawings for panel in drawing.panels]


def sizes_of(drawings: Iterable[Drawing[Content]]) -> list[int]:
    """The kernel sizes of any of the drawings, ascending."""
    return sorted({panel.kernel_size for panel in panels_of(drawings)})


def parameters_of(drawings: Iterable[Drawing[Content]]) -> list[Scalar | None]:
    """The values of the stage's own parameter in any of the drawings, in the study's order."""
    return list(dict.fromkeys(panel.parameter for panel in panels_of(drawings)))


@dataclass(frozen=True)
class StudyFiles:
    """A study with the ledger that hands out its artifacts.

    Attributes:
        ledger: The ledger.
        frame: The study's frame.
        expected: The study's slots.
    """

    ledger: Ledger
    frame: StudyFrame
    expected: Expected


def artifact(name: str, read: Callable[[Path], Content]) -> Reader[Content]:
    """What makes the reader of the runs' artifact `name`."""

    def reader(ledger: Ledger, records: Sequence[RunRecord]) -> Read[Content]:
        del records  # files are fetched one by one

        def read_artifact(record: RunRecord) -> Content:
            path = ledger.artifact(record, name)
            if path is None:
                raise ArtifactError(f"has no artifact {name}")
            return read(path)

        return read_artifact

    return reader


def latest(metric: str) -> Reader[float]:
    """What makes the reader of the latest value of the runs' metric."""

    def read_metric(record: RunRecord) -> float:
        if metric not in record.metrics:
            raise ArtifactError(f"has no metric {metric}")
        value = record.metrics[metric]
        if not is_finite(value):
            raise ArtifactError(f"has {metric} = {value}")
        return value

    return lambda ledger, records: read_metric


def collect(
    stage: str,
    reader: Reader[Content],
    where: Mapping[str, tuple[Scalar, ...]],
    study: StudyFiles,
) -> list[Drawing[Content]]:
    """Reads what a stage's runs left: one drawing for each cell, kernel sizes and seeds aside."""
    grouped: dict[Identity, dict[_Place, list[Slot]]] = {}
    records: list[RunRecord] = []
    for slot in study.expected.slots:
        if slot.stage == stage and admits(where, slot.identity):
            places = grouped.setdefault(study.frame.block(slot.identity), {})
            place = (study.frame.document.stand_in(slot.identity), slot.parameter)
            places.setdefault(place, []).append(slot)
            records += [study.frame.kept[slot]] if slot in study.frame.kept else []
    read = reader(study.ledger, records)
    return [
        Drawing(
            identity,
            tuple(
                _panel(read, place, places[place], study)
                for place in sorted(places, key=lambda place: place[0])
            ),
            _chance(identity, study),
        )
        for identity, places in grouped.items()
    ]


def _chance(identity: Identity, study: StudyFiles) -> float | None:
    test = study.frame.document.datasets.get(str(dict(identity).get("dataset")))
    return None if test is None else test.chance


def _panel(
    read: Read[Content], place: _Place, slots: Sequence[Slot], study: StudyFiles
) -> Panel[Content]:
    ordered = sorted(slots, key=lambda slot: slot.seed or 0)
    found: dict[Slot, Content] = {}
    gaps: list[Gap] = []
    for slot in ordered:
        try:
            found[slot] = _content(read, slot, study)
        except ArtifactError as error:
            gaps.append(gap_at(slot, str(error), study.frame))
    fields = study.frame.receptive_fields(ordered[0].identity)
    return Panel(
        kernel_size=place[0],
        receptive_field=next(iter(fields)) if len(fields) == 1 else None,
        parameter=place[1],
        contents=tuple(found.values()),
        gaps=tuple(gaps),
        size=size_words(ordered[0].identity),
    )


def _content(read: Read[Content], slot: Slot, study: StudyFiles) -> Content:
    record = study.frame.kept.get(slot)
    if record is None:
        raise ArtifactError(absence(slot, study.frame))
    return read(record)
