"""Figures: what a study's runs left, drawn, one file a data set and network.

Of accuracies and curves, the values of a further axis stand side by side in one figure; of what is
a grid of panels by itself, each has a file of its own, in which several studies have a part each.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeVar

from matplotlib.figure import Figure

from rfray.analysis.artifacts import (
    read_alignment,
    read_density,
    read_effective_fields,
    read_paths,
    read_pattern,
    read_probe,
    read_samples,
    read_saturation,
    read_spectrum,
)
from rfray.analysis.expected import Gap
from rfray.analysis.figures.accuracy import draw_finetuning, draw_pruning
from rfray.analysis.figures.barrier import draw_barriers
from rfray.analysis.figures.cka import draw_cka
from rfray.analysis.figures.cka_layers import draw_cka_layers
from rfray.analysis.figures.erf import draw_erf
from rfray.analysis.figures.importance import draw_importance
from rfray.analysis.figures.knobs import Reached, draw_knobs
from rfray.analysis.figures.layers import draw_probe, draw_saturation
from rfray.analysis.figures.panels import (
    Drawing,
    Read,
    Reader,
    StudyFiles,
    artifact,
    collect,
    latest,
)
from rfray.analysis.figures.search import draw_search
from rfray.analysis.figures.sheets import Sheet, sheets, sheets_by_rate, sheets_by_study
from rfray.analysis.figures.spectra import draw_density, draw_eigenvalues
from rfray.analysis.figures.training import curves_reader, draw_training
from rfray.analysis.frame import StudyFrame
from rfray.analysis.report_file import FigureSpec
from rfray.analysis.schema import STUDY, applies
from rfray.analysis.slots import Identity, applying, without
from rfray.analysis.tables import NotInStudy
from rfray.analysis.values import show, typed

if TYPE_CHECKING:
    from rfray.tracking import Ledger, RunRecord

Content = TypeVar("Content")
Shown_contra = TypeVar("Shown_contra", contravariant=True)


@dataclass(frozen=True)
class DrawnFigure:
    """A figure.

    Attributes:
        id: Its file name without the suffix.
        title: Its caption.
        figure: The drawing.
        gaps: What is missing in it, by name and reason.
    """

    id: str
    title: str
    figure: Figure
    gaps: tuple[Gap, ...]


def draw_figures(spec: FigureSpec, study: StudyFiles) -> list[DrawnFigure] | NotInStudy:
    """One entry of the report, drawn for each data set and network of the study.

    Values of further axes are panels of one figure, or where they are too many, or the figure is a
    grid of panels already, have a figure each.

    A figure of which nothing is there yet is drawn empty, with the reasons in its panels.
    """
    drawn = _DRAW[spec.kind](spec, study)
    if not drawn:
        where = ", ".join(f"{axis} {values}" for axis, values in spec.where.items())
        reason = f"the study has nothing of its kind{f' where {where}' if where else ''}"
        return NotInStudy(spec.id, reason)
    return drawn


class _Draw(Protocol[Shown_contra]):
    """Draws what stands in one figure under a title."""

    def __call__(self, title: str, /, *drawings: Shown_contra) -> Figure: ...


def _draw(
    gather: Callable[[FigureSpec, StudyFiles], list[Drawing[Content]]],
    arrange: Callable[[list[Drawing[Content]], StudyFrame], list[Sheet[Content]]],
    draw: _Draw[Drawing[Content]],
    spec: FigureSpec,
    study: StudyFiles,
) -> list[DrawnFigure]:
    figures = []
    for sheet in arrange(gather(spec, study), study.frame):
        stem, title = _named(spec, sheet.identity, study)
        if sheet.rate is not None:
            stem, title = f"{stem}-rate-{show(sheet.rate)}", f"{title} rate {show(sheet.rate)}"
        figures.append(_drawn(stem, title, draw(title, *sheet.drawings), sheet.drawings))
    return figures


def _drawn(
    stem: str, title: str, figure: Figure, drawings: Iterable[Drawing[Content]]
) -> DrawnFigure:
    # A dense network, or one that two knobs come to, stands in several panels and is missing once.
    gaps = dict.fromkeys(gap for drawing in drawings for gap in drawing.gaps)
    return DrawnFigure(stem, title, figure, tuple(gaps))


def _gather(
    stage: str, reader: Reader[Content], spec: FigureSpec, study: StudyFiles
) -> list[Drawing[Content]]:
    return collect(stage, reader, spec.where, study)


def _accuracies(stage: str, spec: FigureSpec, study: StudyFiles) -> list[Drawing[float]]:
    """Accuracies of a stage behind those of the dense networks that it worked on."""
    accuracy = latest("test_accuracy")
    trained = {axis: values for axis, values in spec.where.items() if applies(axis, "train")}
    dense = {d.identity: d.panels for d in collect("train", accuracy, trained, study)}
    return [
        replace(
            drawing,
            panels=(*dense.get(applying(drawing.identity, "train"), ()), *drawing.panels),
        )
        for drawing in _gather(stage, accuracy, spec, study)
    ]


def _knobs(spec: FigureSpec, study: StudyFiles) -> list[DrawnFigure]:
    """One figure a data set and network, with the knobs of its cells as lines."""
    if "knob" not in study.frame.axes:
        return []
    grouped: dict[Identity, dict[Identity, list[Drawing[Reached]]]] = {}
    for drawing in _gather("train", _reached, spec, study):
        own = without(drawing.identity, "knob")
        networks = grouped.setdefault(without(own, STUDY), {})
        networks.setdefault(own, []).append(drawing)
    figures = []
    for shared, networks in grouped.items():
        identity = shared if len(networks) > 1 else next(iter(networks))
        stem, title = _named(spec, identity, study)
        figure = draw_knobs(title, *networks.values())
        everything = [drawing for drawings in networks.values() for drawing in drawings]
        figures.append(_drawn(stem, title, figure, everything))
    return figures


def _reached(ledger: Ledger, records: Sequence[RunRecord]) -> Read[Reached]:
    accuracy = latest("test_accuracy")(ledger, records)

    def read(record: RunRecord) -> Reached:
        size = record.params.get("map_size")
        pixels = None if size is None else int(typed("map_size", size))
        return Reached(accuracy(record), pixels, record.run_id)

    return read


def _named(spec: FigureSpec, identity: Identity, study: StudyFiles) -> tuple[str, str]:
    names = study.frame.names
    return f"{spec.id}-{names.file_stem(identity)}", f"{spec.title}: {names.cell(identity)}"


def _files(
    stage: str, name: str, read: Callable[[Path], Content], draw: _Draw[Drawing[Content]]
) -> Callable[[FigureSpec, StudyFiles], list[DrawnFigure]]:
    """What draws the artifact of a stage, the studies in parts of one figure."""
    return partial(_draw, partial(_gather, stage, artifact(name, read)), sheets_by_study, draw)


_DRAW: dict[str, Callable[[FigureSpec, StudyFiles], list[DrawnFigure]]] = {
    "spectra": _files("hessian", "density.csv", read_density, draw_density),
    "eigenvalues": _files("hessian", "spectrum.csv", read_spectrum, draw_eigenvalues),
    "cka": _files("cka", "cka.npz", read_alignment, draw_cka),
    "cka_layers": _files("cka", "cka.npz", read_alignment, draw_cka_layers),
    "erf": _files("erf", "erf.npz", read_effective_fields, draw_erf),
    "importance": _files("importance", "pattern.npy", read_pattern, draw_importance),
    "probe": _files("probe", "probe.csv", read_probe, draw_probe),
    "saturation": _files("saturation", "saturation.csv", read_saturation, draw_saturation),
    "search": _files("search", "samples.csv", read_samples, draw_search),
    "barriers": partial(
        _draw,
        partial(_gather, "barrier", artifact("barrier.csv", read_paths)),
        sheets,
        draw_barriers,
    ),
    "knobs": _knobs,
    "training": partial(_draw, partial(_gather, "train", curves_reader), sheets, draw_training),
    "pruning": partial(_draw, partial(_accuracies, "prune"), sheets, draw_pruning),
    "finetuning": partial(_draw, partial(_accuracies, "finetune"), sheets_by_rate, draw_finetuning),
}
