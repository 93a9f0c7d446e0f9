"""Figure of effective receptive fields: the field of the last convolution, the radius by layer."""

from __future__ import annotations

from collections.abc import Sequence

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
    parameters_of,
    reasons,
    sizes_of,
)
from rfray.analysis.figures.parts import Legend, by_heading, composed, keys
from rfray.analysis.figures.style import (
    WIDTH,
    colour,
    heat_map,
    moment_name,
    note,
    say_absent,
    say_why,
    scale_bar,
)
from rfray.analysis.values import Scalar

_NORM = LogNorm(1e-3, 1.0)
_OUTLINE = "#D55E00"
_LINES = ("-", "--", ":")


def draw_erf(title: str, *drawings: Drawing[EffectiveFields]) -> Figure:
    """Maps of the last convolution, one row for each receptive field; below, the radius by layer.

    A frame marks the part of the image in the theoretical receptive field.
    """
    sizes, moments = sizes_of(drawings), parameters_of(drawings)
    lines = dict(zip(moments, _LINES, strict=False))

    def grid(drawing: Drawing[EffectiveFields], figure: FigureBase) -> Legend:
        ratios = [1.0] * len(sizes) + [1.2]
        places = figure.add_gridspec(len(sizes) + 1, len(moments), height_ratios=ratios)
        maps = []
        for row, size in enumerate(sizes):
            for column, moment in enumerate(moments):
                axes = figure.add_subplot(places[row, column])
                panel = drawing.panel(size, moment)
                _map(axes, panel) if panel else axes.set_axis_off()
                maps.append(axes)
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


def relative_gradient(fields: Sequence[EffectiveFields]) -> Floats:
    """Root of the mean over seeds of the last layer's map, divided by its largest value.

    Each map is divided by its sum before the mean.
    """
    maps = [one.maps[-1] / one.maps[-1].sum() for one in fields if np.isfinite(one.radius[-1])]
    root = np.sqrt(np.mean(maps, axis=0))
    relative: Floats = root / root.max()
    return relative


def _map(axes: Axes, panel: Panel[EffectiveFields]) -> None:
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
    axes.add_patch(
        Rectangle(
            (left - 0.5, top - 0.5),
            right - left,
            bottom - top,
            fill=False,
            ec=_OUTLINE,
            lw=1.5,
            clip_on=False,
        )
    )


def _radii(
    axes: Axes, panels: Sequence[Panel[EffectiveFields]], lines: dict[Scalar | None, str]
) -> None:
    axes.set_xlabel("place among the convolutional and linear layers")
    axes.set_ylabel("effective radius (pixels)")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    if not any(panel.contents for panel in panels):
        say_why(axes, reasons(panels))
        return
    note(axes, missing_lines(panels))
    for panel in panels:
        for one in panel.contents:
            axes.plot(
                one.places,
                one.radius,
                color=colour(panel.kernel_size),
                ls=lines.get(panel.parameter, "-"),
                lw=1.1,
                alpha=0.8,
            )
    axes.set_ylim(bottom=0)
