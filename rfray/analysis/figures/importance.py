"""Figure of the importance of each input pixel, and of the profile through its centre."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from rfray.analysis.artifacts import Floats
from rfray.analysis.figures.panels import Drawing, Panel
from rfray.analysis.figures.style import WIDTH, colour, headed, look, say_absent

_DECADES = 4
"""Decades shown below the largest value of the smallest map."""


def draw_importance(title: str, drawing: Drawing[Floats]) -> Figure:
    """One map a receptive field on one logarithmic scale, and below them their central profiles."""
    panels = drawing.panels
    norm = _scale([panel.contents[0] for panel in panels if panel.contents])
    with look():
        columns = min(2, len(panels))
        rows = -(-len(panels) // columns)
        figure = Figure(figsize=(WIDTH, 2.4 * rows + 2.7))
        figure.set_layout_engine("constrained")
        headed(figure, title)
        grid = figure.add_gridspec(rows + 1, columns)
        places = [
            figure.add_subplot(grid[number // columns, number % columns])
            for number in range(len(panels))
        ]
        for axes, panel in zip(places, panels, strict=True):
            _map(axes, panel, norm)
        drawn = [axes.images[0] for axes in places if axes.images]
        if drawn:
            bar = figure.colorbar(drawn[0], ax=places, aspect=15, extend="min", panchor=False)
            bar.set_label("mean |gradient|")
        profiles = figure.add_subplot(grid[-1, :])
        _profiles(profiles, panels, norm)
        if profiles.lines:
            figure.legend(handles=profiles.lines, loc="outside lower center", ncols=2)
    return figure


def _scale(patterns: Sequence[Floats]) -> LogNorm:
    """One scale for all maps: they differ by orders of magnitude, and each by more in itself."""
    peaks = [float(pattern.max()) for pattern in patterns if pattern.max() > 0]
    highest, lowest = max(peaks, default=1.0), min(peaks, default=1.0)
    positive = [float(pattern[pattern > 0].min()) for pattern in patterns if pattern.max() > 0]
    floor = max(lowest * 10.0**-_DECADES, min(positive, default=0.1))
    return LogNorm(min(floor, highest / 10), highest)


def _map(axes: Axes, panel: Panel[Floats], norm: LogNorm) -> None:
    axes.set_title(panel.title)
    if not panel.contents:
        say_absent(axes, [gap.reason for gap in panel.gaps])
        axes.set_box_aspect(1)
        return
    palette = colormaps["cividis"]
    axes.imshow(
        np.ma.masked_less_equal(panel.contents[0], 0.0),
        cmap=palette.with_extremes(bad=palette(0.0), under=palette(0.0)),
        norm=norm,
        interpolation="nearest",
    )
    axes.spines[:].set_visible(False)
    axes.set_xticks([])
    axes.set_yticks([])


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
