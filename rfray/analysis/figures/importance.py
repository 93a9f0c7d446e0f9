"""Figure of the importance of each input pixel, and of the profile through its centre."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure, FigureBase

from rfray.analysis.artifacts import Floats
from rfray.analysis.figures.panels import (
    Drawing,
    Panel,
    panels_of,
    parameters_of,
    reasons,
    sizes_of,
)
from rfray.analysis.figures.parts import Legend, by_heading, composed
from rfray.analysis.figures.style import (
    COLUMNS,
    WIDTH,
    colour,
    heat_map,
    rows_of,
    say_absent,
    scale_bar,
)

_DECADES = 4
"""Decades shown below the peak of the map with the lowest peak."""


def draw_importance(title: str, *drawings: Drawing[Floats]) -> Figure:
    """One map for each receptive field on one logarithmic scale; below, their central profiles."""
    shown = [(size, own) for size in sizes_of(drawings) for own in parameters_of(drawings)]
    norm = _scale([panel.contents[0] for panel in panels_of(drawings) if panel.contents])
    columns, rows = min(COLUMNS, len(shown)), rows_of(len(shown))

    def grid(drawing: Drawing[Floats], figure: FigureBase) -> Legend:
        places = figure.add_gridspec(rows + 1, columns)
        maps = []
        for number, place in enumerate(shown):
            axes = figure.add_subplot(places[number // columns, number % columns])
            panel = drawing.panel(*place)
            _map(axes, panel, norm) if panel else axes.set_axis_off()
            maps.append(axes)
        scale_bar(figure, maps, "mean |gradient|", aspect=15, extend="min", panchor=False)
        profiles = figure.add_subplot(places[-1, :])
        _profiles(profiles, drawing.panels, norm)
        return Legend(profiles.lines)

    size = (WIDTH, 2.4 * rows + 2.7)
    return composed(title, size, by_heading(grid, drawings))


def _scale(patterns: Sequence[Floats]) -> LogNorm:
    """One logarithmic scale for all maps: they differ by orders of magnitude."""
    peaks = [float(pattern.max()) for pattern in patterns if pattern.max() > 0]
    highest, lowest = max(peaks, default=1.0), min(peaks, default=1.0)
    positive = [float(pattern[pattern > 0].min()) for pattern in patterns if pattern.max() > 0]
    floor = max(lowest * 10.0**-_DECADES, min(positive, default=0.1))
    return LogNorm(min(floor, highest / 10), highest)


def _map(axes: Axes, panel: Panel[Floats], norm: LogNorm) -> None:
    axes.set_title(panel.title)
    if not panel.contents:
        say_absent(axes, reasons([panel]))
        axes.set_box_aspect(1)
        return
    heat_map(axes, panel.contents[0], norm)


def _profiles(axes: Axes, panels: Sequence[Panel[Floats]], norm: LogNorm) -> None:
    for panel in panels:
        for pattern in panel.contents:
            row = pattern[pattern.shape[0] // 2]
            offset = np.arange(len(row)) - len(row) // 2
            axes.plot(offset, row, color=colour(panel.kernel_size), lw=1.2, label=panel.label)
    axes.set_yscale("log")
    axes.set_ylim(norm.vmin, (norm.vmax or 1.0) * 2)
    axes.set_xlabel("pixels from the centre, along the central row")
    axes.set_ylabel("mean |gradient|")
