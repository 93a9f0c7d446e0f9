"""Figures of the Hessian: its spectral density, and its largest eigenvalues by rank."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, NullLocator

from rfray.analysis.artifacts import Density, Spectrum
from rfray.analysis.figures.panels import Drawing, Panel, missing_lines
from rfray.analysis.figures.style import (
    WIDTH,
    colour,
    headed,
    look,
    moment_name,
    note,
    say_absent,
)

_DECADES = 10
"""Decades of density shown below the peak: one eigenvalue of 10⁷ stands some 8 below the bulk."""


def draw_density(title: str, drawing: Drawing[Density]) -> Figure:
    """λ against P(λ): one column a moment, one row a receptive field, one line a seed.

    The density axis is shared along a column; each panel has the λ axis that its spectrum needs.
    """
    moments = list(dict.fromkeys(panel.parameter for panel in drawing.panels))
    sizes = list(dict.fromkeys(panel.kernel_size for panel in drawing.panels))
    with look():
        figure = Figure(figsize=(WIDTH, 1.9 * len(sizes) + 0.9))
        figure.set_layout_engine("constrained")
        headed(figure, title)
        grid = figure.subplots(len(sizes), len(moments), squeeze=False)
        for column, moment in zip(grid.T, moments, strict=True):
            mine = [panel for panel in drawing.panels if panel.parameter == moment]
            _density_column(dict(zip(sizes, column, strict=True)), mine)
        for axes in grid[:, 0]:
            axes.set_ylabel("density P(λ)")
        for axes in (axes for axes in grid[-1] if axes.lines):
            axes.set_xlabel("eigenvalue λ")
    return figure


def draw_eigenvalues(title: str, drawing: Drawing[Spectrum]) -> Figure:
    """Eigenvalue against rank: one panel a moment, one colour a receptive field, one line a seed.

    An eigenvalue that has not converged has a hollow marker.
    """
    moments = list(dict.fromkeys(panel.parameter for panel in drawing.panels))
    with look():
        figure = Figure(figsize=(WIDTH, 3.3 * len(moments) + 0.8))
        figure.set_layout_engine("constrained")
        headed(figure, title)
        column = figure.subplots(len(moments), 1, squeeze=False)[:, 0]
        for axes, moment in zip(column, moments, strict=True):
            panels = [panel for panel in drawing.panels if panel.parameter == moment]
            _rank_panel(axes, panels)
            axes.set_title(moment_name(moment))
            axes.set_xlabel("rank, largest first")
            axes.set_ylabel("eigenvalue λ")
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        figure.legend(handles=_legend(drawing.panels), loc="outside lower center", ncols=2)
    return figure


def _density_column(places: dict[int, Axes], panels: Sequence[Panel[Density]]) -> None:
    drawn = [content for panel in panels for content in panel.contents]
    peak = max((float(content.density.max()) for content in drawn), default=1.0)
    floor = peak * 10.0**-_DECADES
    for panel in panels:
        axes = places[panel.kernel_size]
        axes.set_title(f"{panel.title}, {moment_name(panel.parameter)}", fontsize=8.5)
        if not panel.contents:
            say_absent(axes, [gap.reason for gap in panel.gaps])
            continue
        for content in panel.contents:
            above = np.where(content.density > floor, content.density, np.nan)
            axes.plot(
                content.eigenvalues, above, color=colour(panel.kernel_size), lw=1.0, alpha=0.8
            )
        axes.set_yscale("log")
        axes.yaxis.set_minor_locator(NullLocator())
        axes.set_ylim(floor, peak * 4)
        axes.set_xlim(*_extent(panel.contents, floor))
        axes.axvline(0.0, color="#999999", lw=0.6, zorder=0)


def _extent(densities: Sequence[Density], floor: float) -> tuple[float, float]:
    """Where the densities of one panel stand above the floor: receptive fields differ by decades.

    The axis is linear, as the field draws it, so that the outliers stand apart from the bulk.
    """
    above = [density.eigenvalues[density.density > floor] for density in densities]
    visible = np.concatenate([*above, np.zeros(1)])
    margin = 0.04 * float(np.ptp(visible)) or 1.0
    return float(visible.min()) - margin, float(visible.max()) + margin


def _rank_panel(axes: Axes, panels: Sequence[Panel[Spectrum]]) -> None:
    drawn = [content for panel in panels for content in panel.contents]
    if not drawn:
        say_absent(axes, [gap.reason for panel in panels for gap in panel.gaps])
        return
    values = np.concatenate([content.eigenvalues for content in drawn])
    if values.min() > 0 and values.max() < 10 * values.min():
        # Within less than a decade a logarithmic axis has no tick to read.
        axes.set_yscale("linear")
    elif values.min() > 0:
        axes.set_yscale("log")
    else:
        axes.set_yscale("symlog", linthresh=float(np.quantile(np.abs(values), 0.1)) or 1e-12)
    note(axes, missing_lines(panels))
    for panel in panels:
        ink = colour(panel.kernel_size)
        for content in panel.contents:
            axes.plot(content.ranks, content.eigenvalues, color=ink, lw=0.6, alpha=0.6, zorder=1)
            for mask, fill in ((content.converged, ink), (~content.converged, "white")):
                axes.scatter(
                    content.ranks[mask],
                    content.eigenvalues[mask],
                    s=9,
                    facecolors=fill,
                    edgecolors=ink,
                    linewidths=0.7,
                    zorder=2,
                )


def _legend(panels: Sequence[Panel[Spectrum]]) -> list[Line2D]:
    labels = {panel.kernel_size: panel.label for panel in panels if panel.contents}
    handles = [
        Line2D([], [], color=colour(size), marker="o", ms=4, label=label)
        for size, label in sorted(labels.items())
    ]
    hollow = Line2D(
        [], [], color="#444444", marker="o", ms=4, mfc="white", ls="", label="not converged"
    )
    return [*handles, hollow]
