"""Figures: a study's artifacts drawn, one file a data set and network."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from matplotlib.figure import Figure

from rfray.analysis.artifacts import read_alignment, read_density, read_pattern, read_spectrum
from rfray.analysis.expected import Gap
from rfray.analysis.figures.cka import draw_cka
from rfray.analysis.figures.importance import draw_importance
from rfray.analysis.figures.panels import Drawing, Source, StudyFiles, collect
from rfray.analysis.figures.spectra import draw_density, draw_eigenvalues
from rfray.analysis.report_file import FigureSpec
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
        title = f"{spec.title}: {study.frame.names.cell(drawing.identity)}"
        stem = f"{spec.id}-{study.frame.names.file_stem(drawing.identity)}"
        figures.append(DrawnFigure(stem, title, draw(title, drawing), tuple(drawing.gaps)))
    return figures


_DRAW: dict[str, Callable[[FigureSpec, StudyFiles], list[DrawnFigure]]] = {
    "spectra": partial(_draw, Source("hessian", "density.csv", read_density), draw_density),
    "eigenvalues": partial(
        _draw, Source("hessian", "spectrum.csv", read_spectrum), draw_eigenvalues
    ),
    "cka": partial(_draw, Source("cka", "cka.npz", read_alignment), draw_cka),
    "importance": partial(
        _draw, Source("importance", "pattern.npy", read_pattern), draw_importance
    ),
}
