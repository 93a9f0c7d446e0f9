"""Figures of the results of a study's runs: one file for each data set and network.

In figures of accuracies and curves, the values of a further axis are panels of one figure. In
figures that are grids of panels already, each value has its own file, with a part for each study.
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
from rfray.analysis.figures.cka import draw_cka, draw_cka_layers
from rfray.analysis.figures.curves import curves_reader, draw_barriers, draw_training
from rfray.analysis.figures.knobs import Reached, draw_knobs
from rfray.analysis.figures.layers import draw_probe, draw_saturation
from rfray.analysis.figures.maps import draw_erf, draw_importance
from rfray.analysis.figures.panels import (
    Content,
    Drawing,
    Read,
    StudyFiles,
    Where,
    artifact,
    collect,
    latest,
)
from rfray.analysis.figures.search import draw_search
from rfray.analysis.figures.sheets import Sheet, sheets, sheets_by_rate, sheets_by_study
from rfray.analysis.figures.spectra import draw_density, draw_eigenvalues
from rfray.analysis.frame import StudyFrame
from rfray.analysis.report_file import FigureSpec
from rfray.analysis.schema import STUDY, applies
from rfray.analysis.slots import Identity, applying, without
from rfray.analysis.tables import NotInStudy
from rfray.analysis.values import show, typed

if TYPE_CHECKING:
    from rfray.tracking import Ledger, RunRecord

Shown_contra = TypeVar("Shown_contra", contravariant=True)
_Arrange = Callable[[list[Drawing[Content]], StudyFrame], list[Sheet[Content]]]


@dataclass(frozen=True)
class DrawnFigure:
    """A figure, with its file name without the suffix, its caption, and what is missing in it."""

    id: str
    title: str
    figure: Figure
    gaps: tuple[Gap, ...]


def draw_figures(spec: FigureSpec, study: StudyFiles) -> list[DrawnFigure] | NotInStudy:
    """One entry of the report, drawn for each data set and network of the study.

    Values of further axes are panels of one figure. They have a figure each if they are too many,
    or if the figure is a grid of panels already. A figure without results is drawn empty, with the
    reasons in its panels.
    """
    drawn = _DRAW[spec.kind](spec, study)
    if not drawn:
        where = ", ".join(f"{axis} {values}" for axis, values in spec.where.items())
        reason = f"the study has no runs for this figure{f' where {where}' if where else ''}"
        return NotInStudy(spec.id, reason)
    return drawn


class _Draw(Protocol[Shown_contra]):
    """Draws one figure under a title."""

    def __call__(self, title: str, /, *drawings: Shown_contra) -> Figure: ...


def _draw(
    gather: Callable[[Where, StudyFiles], list[Drawing[Content]]],
    arrange: _Arrange[Content],
    draw: _Draw[Drawing[Content]],
    spec: FigureSpec,
    study: StudyFiles,
) -> list[DrawnFigure]:
    figures = []
    for sheet in arrange(gather(spec.where, study), study.frame):
        stem, title = _named(spec, sheet.identity, study)
        if sheet.rate is not None:
            stem, title = f"{stem}-rate-{show(sheet.rate)}", f"{title} rate {show(sheet.rate)}"
        figures.append(_drawn(stem, title, draw(title, *sheet.drawings), sheet.drawings))
    return figures


def _drawn(
    stem: str, title: str, figure: Figure, drawings: Iterable[Drawing[Content]]
) -> DrawnFigure:
    # A dense network, or the result of two knobs, is in several panels; if missing, it counts once.
    gaps = dict.fromkeys(gap for drawing in drawings for gap in drawing.gaps)
    return DrawnFigure(stem, title, figure, tuple(gaps))


def _accuracies(stage: str, where: Where, study: StudyFiles) -> list[Drawing[float]]:
    """Accuracies of a stage, after those of the dense networks that it worked on."""
    accuracy = latest("test_accuracy")
    trained = {axis: values for axis, values in where.items() if applies(axis, "train")}
    dense = {d.identity: d.panels for d in collect("train", accuracy, trained, study)}
    return [
        replace(
            drawing, panels=(*dense.get(applying(drawing.identity, "train"), ()), *drawing.panels)
        )
        for drawing in collect(stage, accuracy, where, study)
    ]


def _knobs(spec: FigureSpec, study: StudyFiles) -> list[DrawnFigure]:
    """One figure for each data set and network, with the knobs of its cells as lines."""
    if "knob" not in study.frame.axes:
        return []
    grouped: dict[Identity, dict[Identity, list[Drawing[Reached]]]] = {}
    for drawing in collect("train", _reached, spec.where, study):
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
    stage: str,
    name: str,
    read: Callable[[Path], Content],
    draw: _Draw[Drawing[Content]],
    arrange: _Arrange[Content] = sheets_by_study,
) -> Callable[[FigureSpec, StudyFiles], list[DrawnFigure]]:
    """A function that draws the artifact of a stage, as a rule with one part for each study."""
    return partial(_draw, partial(collect, stage, artifact(name, read)), arrange, draw)


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
    "barriers": _files("barrier", "barrier.csv", read_paths, draw_barriers, sheets),
    "knobs": _knobs,
    "training": partial(_draw, partial(collect, "train", curves_reader), sheets, draw_training),
    "pruning": partial(_draw, partial(_accuracies, "prune"), sheets, draw_pruning),
    "finetuning": partial(_draw, partial(_accuracies, "finetune"), sheets_by_rate, draw_finetuning),
}
