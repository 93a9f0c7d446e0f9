"""Figures of what each input pixel does: effective receptive fields, and importance."""

from collections.abc import Mapping, Sequence
from itertools import product

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure, FigureBase
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from rfray.analysis.artifacts import EffectiveFields, Floats
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
from rfray.analysis.figures.style import (
    COLUMNS,
    WIDTH,
    colour,
    heat_map,
    moment_name,
    note,
    rows_of,
    say_absent,
    say_why,
    scale_bar,
)
from rfray.analysis.values import Scalar

_NORM = LogNorm(1e-3, 1.0)
_OUTLINE = "#D55E00"
_LINES = ("-", "--", ":")
_DECADES = 4
"""Decades of importance shown below the peak of the map with the lowest peak."""


def draw_erf(title: str, *drawings: Drawing[EffectiveFields]) -> Figure:
    """Maps of the last convolution, one row for each receptive field; below, the radius by layer.

    A frame marks the part of the image in the theoretical receptive field.
    """
    sizes, moments = sizes_of(drawings), parameters_of(drawings)
    lines = dict(zip(moments, _LINES, strict=False))

    def grid(drawing: Drawing[EffectiveFields], figure: FigureBase) -> Legend:
        ratios = [1.0] * len(sizes) + [1.2]
        places = figure.add_gridspec(len(sizes) + 1, len(moments), height_ratios=ratios)
        maps = [figure.add_subplot(places[i]) for i in range(len(sizes) * len(moments))]
        for axes, panel in placed(drawing, maps, product(sizes, moments)):
            _field(axes, panel)
        label = "root mean |gradient|² over its largest value"
        scale_bar(figure, maps, label, aspect=40, extend="min")
        radii = figure.add_subplot(places[-1, :])
        _radii(radii, drawing.panels, lines)
        named = [
            Line2D([], [], color="#444444", ls=style, label=moment_name(at))
            for at, style in lines.items()
        ]
        return Legend([*keys(drawing.panels), *named] if radii.lines else ())

    size = (WIDTH, 2.4 * len(sizes) + 3.6)
    return composed(title, size, by_heading(grid, drawings))


def draw_importance(title: str, *drawings: Drawing[Floats]) -> Figure:
    """One map for each receptive field on one logarithmic scale; below, their central profiles."""
    shown = list(product(sizes_of(drawings), parameters_of(drawings)))
    norm = _scale([panel.contents[0] for panel in panels_of(drawings) if panel.contents])
    rows = rows_of(len(shown))

    def grid(drawing: Drawing[Floats], figure: FigureBase) -> Legend:
        places = figure.add_gridspec(rows + 1, min(COLUMNS, len(shown)))
        maps = [figure.add_subplot(places[i]) for i in range(len(shown))]
        for axes, panel in placed(drawing, maps, shown):
            axes.set_title(panel.title)
            if panel.contents:
                heat_map(axes, panel.contents[0], norm)
            else:
                say_absent(axes, reasons([panel]))
                axes.set_box_aspect(1)
        scale_bar(figure, maps, "mean |gradient|", aspect=15, extend="min", panchor=False)
        profiles = figure.add_subplot(places[-1, :])
        _profiles(profiles, drawing.panels, norm)
        return Legend(profiles.lines)

    size = (WIDTH, 2.4 * rows + 2.7)
    return composed(title, size, by_heading(grid, drawings))


def relative_gradient(fields: Sequence[EffectiveFields]) -> Floats:
    """Root of the mean over seeds of the last layer's map, divided by its largest value.

    Each map is divided by its sum before the mean.
    """
    maps = [one.maps[-1] / one.maps[-1].sum() for one in fields if np.isfinite(one.radius[-1])]
    root = np.sqrt(np.mean(maps, axis=0))
    relative: Floats = root / root.max()
    return relative


def _field(axes: Axes, panel: Panel[EffectiveFields]) -> None:
    moment = moment_name(panel.parameter)
    axes.set_title(f"{panel.title}\n{moment}", fontsize=8.5)
    radii = [one.radius[-1] for one in panel.contents if np.isfinite(one.radius[-1])]
    if not radii:
        axes.set_box_aspect(1)
        say_absent(axes, reasons([panel]) or ["no gradient"])
        return
    axes.set_title(f"{panel.title}\n{moment}: radius {np.mean(radii):.1f}", fontsize=8.5)
    heat_map(axes, relative_gradient(panel.contents), _NORM)
    (top, bottom), (left, right) = panel.contents[0].rows[-1], panel.contents[0].columns[-1]
    corner, width, height = (left - 0.5, top - 0.5), right - left, bottom - top
    frame = Rectangle(corner, width, height, fill=False, ec=_OUTLINE, lw=1.5, clip_on=False)
    axes.add_patch(frame)


def _radii(
    axes: Axes, panels: Sequence[Panel[EffectiveFields]], lines: Mapping[Scalar | None, str]
) -> None:
    axes.set_xlabel("place among the convolutional and linear layers")
    axes.set_ylabel("effective radius (pixels)")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    if not any(panel.contents for panel in panels):
        say_why(axes, reasons(panels))
        return
    note(axes, missing_lines(panels))
    for panel in panels:
        ink, line = colour(panel.kernel_size), lines.get(panel.parameter, "-")
        for one in panel.contents:
            axes.plot(one.places, one.radius, color=ink, ls=line, lw=1.1, alpha=0.8)
    axes.set_ylim(bottom=0)


def _scale(patterns: Sequence[Floats]) -> LogNorm:
    """One logarithmic scale for all maps: they differ by orders of magnitude."""
    peaks = [float(pattern.max()) for pattern in patterns if pattern.max() > 0]
    highest, lowest = max(peaks, default=1.0), min(peaks, default=1.0)
    positive = [float(pattern[pattern > 0].min()) for pattern in patterns if pattern.max() > 0]
    floor = max(lowest * 10.0**-_DECADES, min(positive, default=0.1))
    return LogNorm(min(floor, highest / 10), highest)


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
