"""Figures of the Hessian: its spectral density, and its largest eigenvalues by rank."""

from collections.abc import Sequence
from itertools import product
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, FigureBase
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, NullLocator

from rfray.analysis.artifacts import Density, Spectrum
from rfray.analysis.figures.panels import (
    Drawing,
    Panel,
    missing_lines,
    panels_of,
    parameters_of,
    reasons,
    sizes_of,
)
from rfray.analysis.figures.parts import Legend, by_heading, composed, keys, placed
from rfray.analysis.figures.style import WIDTH, colour, moment_name, note, say_absent
from rfray.analysis.values import Scalar

_DECADES = 10
"""Decades of density shown below the peak: one of 10⁷ eigenvalues is about 8 below it."""


def draw_density(title: str, *drawings: Drawing[Density]) -> Figure:
    """P(λ) against λ: a column for each value of `at`, a row for each receptive field.

    Each line is one seed. The density axis is the same in a column; the λ axis fits each panel.
    """
    sizes, moments = sizes_of(drawings), parameters_of(drawings)
    peaks = {moment: _peak(moment, drawings) for moment in moments}

    def grid(drawing: Drawing[Density], figure: FigureBase) -> Legend:
        places = figure.subplots(len(sizes), len(moments), squeeze=False)
        for axes in places[:, 0]:
            axes.set_ylabel("density P(λ)")
        for axes, panel in placed(drawing, places.flat, product(sizes, moments)):
            _density(axes, panel, peaks[panel.parameter])
        for axes in (axes for axes in places[-1] if axes.lines):
            axes.set_xlabel("eigenvalue λ")
        return Legend()

    return composed(title, (WIDTH, 1.9 * len(sizes) + 0.9), by_heading(grid, drawings))


def draw_eigenvalues(title: str, *drawings: Drawing[Spectrum]) -> Figure:
    """Eigenvalue against rank: a panel for each value of `at`, a colour for each receptive field.

    Each line is one seed. An eigenvalue that has not converged has a hollow marker.
    """
    moments = parameters_of(drawings)

    def column(drawing: Drawing[Spectrum], figure: FigureBase) -> Legend:
        places = figure.subplots(len(moments), 1, squeeze=False)[:, 0]
        for axes, moment in zip(places, moments, strict=True):
            scale = _scale([panel for panel in panels_of(drawings) if panel.parameter == moment])
            _rank_panel(axes, [one for one in drawing.panels if one.parameter == moment], scale)
            axes.set_title(moment_name(moment))
            axes.set_xlabel("rank, largest first")
            axes.set_ylabel("eigenvalue λ")
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        hollow = Line2D(
            [], [], color="#444444", marker="o", ms=4, mfc="white", ls="", label="not converged"
        )
        return Legend([*keys(drawing.panels, lambda size: "o", ms=4), hollow])

    return composed(title, (WIDTH, 3.3 * len(moments) + 0.8), by_heading(column, drawings))


def _peak(moment: Scalar | None, drawings: Sequence[Drawing[Density]]) -> float:
    """The highest density of all networks at a moment."""
    panels = [panel for panel in panels_of(drawings) if panel.parameter == moment]
    return max((float(one.density.max()) for p in panels for one in p.contents), default=1.0)


def _density(axes: Axes, panel: Panel[Density], peak: float) -> None:
    floor = peak * 10.0**-_DECADES
    axes.set_title(f"{panel.title}, {moment_name(panel.parameter)}", fontsize=8.5)
    if not panel.contents:
        say_absent(axes, reasons([panel]))
        return
    for content in panel.contents:
        above = np.where(content.density > floor, content.density, np.nan)
        axes.plot(content.eigenvalues, above, color=colour(panel.kernel_size), lw=1.0, alpha=0.8)
    axes.set_yscale("log")
    axes.yaxis.set_minor_locator(NullLocator())
    axes.set_ylim(floor, peak * 4)
    axes.set_xlim(*_extent(panel.contents, floor))
    axes.axvline(0.0, color="#999999", lw=0.6, zorder=0)


def _extent(densities: Sequence[Density], floor: float) -> tuple[float, float]:
    """The λ range where the densities of one panel are above the floor.

    The axis is linear, as is usual, so that outliers are visibly apart from the bulk.
    """
    above = [density.eigenvalues[density.density > floor] for density in densities]
    visible = np.concatenate([*above, np.zeros(1)])
    margin = 0.04 * float(np.ptp(visible)) or 1.0
    return float(visible.min()) - margin, float(visible.max()) + margin


def _scale(panels: Sequence[Panel[Spectrum]]) -> dict[str, Any]:
    """The scale for eigenvalues, as `Axes.set_yscale` takes it."""
    values = np.concatenate([np.zeros(0), *(c.eigenvalues for p in panels for c in p.contents)])
    if not values.size or (values.min() > 0 and values.max() < 10 * values.min()):
        # In less than a decade a logarithmic axis may have no tick.
        return {"value": "linear"}
    if values.min() > 0:
        return {"value": "log"}
    return {"value": "symlog", "linthresh": float(np.quantile(np.abs(values), 0.1)) or 1e-12}


def _rank_panel(axes: Axes, panels: Sequence[Panel[Spectrum]], scale: dict[str, Any]) -> None:
    if not any(panel.contents for panel in panels):
        say_absent(axes, reasons(panels))
        return
    axes.set_yscale(**scale)
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
