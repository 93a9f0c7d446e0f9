"""Figures: what a study's runs left, drawn, one file a data set and network.

Of accuracies and curves, the values of a further axis stand side by side in one figure; of what is
a grid of panels by itself, each has a file of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from matplotlib.figure import Figure

from rfray.analysis.artifacts import (
    Paths,
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
    Source,
    StudyFiles,
    artifact,
    collect,
    latest,
)
from rfray.analysis.figures.search import draw_search
from rfray.analysis.figures.sheets import Sheet, sheets, sheets_by_rate
from rfray.analysis.figures.spectra import draw_density, draw_eigenvalues
from rfray.analysis.figures.training import Curve, curves_reader, draw_training
from rfray.analysis.frame import StudyFrame
from rfray.analysis.report_file import FigureSpec
from rfray.analysis.schema import applies
from rfray.analysis.slots import Identity, applying, without
from rfray.analysis.tables import NotInStudy
from rfray.analysis.values import show, typed

if TYPE_CHECKING:
    from rfray.tracking import Ledger, RunRecord

Content = TypeVar("Content")


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


def _draw(
    source: Source[Content],
    draw: Callable[[str, Drawing[Content]], Figure],
    spec: FigureSpec,
    study: StudyFiles,
) -> list[DrawnFigure]:
    figures = []
    for drawing in collect(source, spec.where, study):
        stem, title = _named(spec, drawing.identity, study)
        figures.append(DrawnFigure(stem, title, draw(title, drawing), tuple(drawing.gaps)))
    return figures


def _draw_side_by_side(
    gather: Callable[[FigureSpec, StudyFiles], list[Drawing[Content]]],
    arrange: Callable[[list[Drawing[Content]], StudyFrame], list[Sheet[Content]]],
    draw: Callable[[str, Sequence[Drawing[Content]]], Figure],
    spec: FigureSpec,
    study: StudyFiles,
) -> list[DrawnFigure]:
    figures = []
    for sheet in arrange(gather(spec, study), study.frame):
        stem, title = _named(spec, sheet.identity, study)
        if sheet.rate is not None:
            stem, title = f"{stem}-rate-{show(sheet.rate)}", f"{title} rate {show(sheet.rate)}"
        # The dense network stands in several panels, and is missing once.
        gaps = dict.fromkeys(gap for drawing in sheet.drawings for gap in drawing.gaps)
        figures.append(DrawnFigure(stem, title, draw(title, sheet.drawings), tuple(gaps)))
    return figures


def _paths(spec: FigureSpec, study: StudyFiles) -> list[Drawing[Paths]]:
    return collect(Source("barrier", artifact("barrier.csv", read_paths)), spec.where, study)


def _curves(spec: FigureSpec, study: StudyFiles) -> list[Drawing[dict[str, Curve]]]:
    return collect(Source("train", curves_reader), spec.where, study)


def _accuracies(stage: str, spec: FigureSpec, study: StudyFiles) -> list[Drawing[float]]:
    """Accuracies of a stage behind those of the dense networks that it worked on."""
    accuracy = latest("test_accuracy")
    trained = {axis: values for axis, values in spec.where.items() if applies(axis, "train")}
    dense = {d.identity: d.panels for d in collect(Source("train", accuracy), trained, study)}
    return [
        replace(
            drawing,
            panels=(*dense.get(applying(drawing.identity, "train"), ()), *drawing.panels),
        )
        for drawing in collect(Source(stage, accuracy), spec.where, study)
    ]


def _knobs(spec: FigureSpec, study: StudyFiles) -> list[DrawnFigure]:
    """One figure a data set and network, with the knobs of its cells as lines."""
    if "knob" not in study.frame.axes:
        return []
    grouped: dict[Identity, list[Drawing[Reached]]] = {}
    for drawing in collect(Source("train", _reached), spec.where, study):
        heading = str(dict(drawing.identity)["knob"])
        shared = without(drawing.identity, "knob")
        grouped.setdefault(shared, []).append(replace(drawing, heading=heading))
    figures = []
    for shared, drawings in grouped.items():
        stem, title = _named(spec, shared, study)
        gaps = dict.fromkeys(gap for drawing in drawings for gap in drawing.gaps)
        figures.append(DrawnFigure(stem, title, draw_knobs(title, drawings), tuple(gaps)))
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


_ALIGNMENT = Source("cka", artifact("cka.npz", read_alignment))
_DRAW: dict[str, Callable[[FigureSpec, StudyFiles], list[DrawnFigure]]] = {
    "spectra": partial(
        _draw, Source("hessian", artifact("density.csv", read_density)), draw_density
    ),
    "eigenvalues": partial(
        _draw, Source("hessian", artifact("spectrum.csv", read_spectrum)), draw_eigenvalues
    ),
    "cka": partial(_draw, _ALIGNMENT, draw_cka),
    "cka_layers": partial(_draw, _ALIGNMENT, draw_cka_layers),
    "barriers": partial(_draw_side_by_side, _paths, sheets, draw_barriers),
    "erf": partial(_draw, Source("erf", artifact("erf.npz", read_effective_fields)), draw_erf),
    "importance": partial(
        _draw, Source("importance", artifact("pattern.npy", read_pattern)), draw_importance
    ),
    "probe": partial(_draw, Source("probe", artifact("probe.csv", read_probe)), draw_probe),
    "saturation": partial(
        _draw, Source("saturation", artifact("saturation.csv", read_saturation)), draw_saturation
    ),
    "search": partial(_draw, Source("search", artifact("samples.csv", read_samples)), draw_search),
    "knobs": _knobs,
    "training": partial(_draw_side_by_side, _curves, sheets, draw_training),
    "pruning": partial(_draw_side_by_side, partial(_accuracies, "prune"), sheets, draw_pruning),
    "finetuning": partial(
        _draw_side_by_side, partial(_accuracies, "finetune"), sheets_by_rate, draw_finetuning
    ),
}
