"""Figures: what a study's runs left, drawn, one file a data set and network."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from matplotlib.figure import Figure

from rfray.analysis.artifacts import (
    read_alignment,
    read_density,
    read_pattern,
    read_samples,
    read_spectrum,
)
from rfray.analysis.expected import Gap
from rfray.analysis.figures.accuracy import draw_finetuning, draw_pruning
from rfray.analysis.figures.cka import draw_cka
from rfray.analysis.figures.importance import draw_importance
from rfray.analysis.figures.panels import Drawing, Source, StudyFiles, artifact, collect, latest
from rfray.analysis.figures.search import draw_search
from rfray.analysis.figures.spectra import draw_density, draw_eigenvalues
from rfray.analysis.figures.training import curves_reader, draw_training
from rfray.analysis.report_file import FigureSpec
from rfray.analysis.slots import Identity, applying
from rfray.analysis.tables import NotInStudy

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
    """One entry of the report, drawn for each cell of the study, kernel sizes and seeds aside.

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


def _draw_beside_dense(
    stage: str,
    draw: Callable[[str, Drawing[float], Drawing[float]], Figure],
    spec: FigureSpec,
    study: StudyFiles,
) -> list[DrawnFigure]:
    accuracy = latest("test_accuracy")
    dense = {d.identity: d for d in collect(Source("train", accuracy), spec.where, study)}
    figures = []
    for drawing in collect(Source(stage, accuracy), spec.where, study):
        trained = applying(drawing.identity, "train")
        beside = dense.get(trained, Drawing(trained, ()))
        stem, title = _named(spec, drawing.identity, study)
        gaps = (*beside.gaps, *drawing.gaps)
        figures.append(DrawnFigure(stem, title, draw(title, beside, drawing), gaps))
    return figures


def _named(spec: FigureSpec, identity: Identity, study: StudyFiles) -> tuple[str, str]:
    names = study.frame.names
    return f"{spec.id}-{names.file_stem(identity)}", f"{spec.title}: {names.cell(identity)}"


_DRAW: dict[str, Callable[[FigureSpec, StudyFiles], list[DrawnFigure]]] = {
    "spectra": partial(
        _draw, Source("hessian", artifact("density.csv", read_density)), draw_density
    ),
    "eigenvalues": partial(
        _draw, Source("hessian", artifact("spectrum.csv", read_spectrum)), draw_eigenvalues
    ),
    "cka": partial(_draw, Source("cka", artifact("cka.npz", read_alignment)), draw_cka),
    "importance": partial(
        _draw, Source("importance", artifact("pattern.npy", read_pattern)), draw_importance
    ),
    "search": partial(_draw, Source("search", artifact("samples.csv", read_samples)), draw_search),
    "training": partial(_draw, Source("train", curves_reader), draw_training),
    "pruning": partial(_draw_beside_dense, "prune", draw_pruning),
    "finetuning": partial(_draw_beside_dense, "finetune", draw_finetuning),
}
