"""Figure of effective receptive fields: that of the last convolution, and their radius by layer."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from rfray.analysis.artifacts import EffectiveFields, Floats
from rfray.analysis.figures.panels import Drawing, Panel, missing_lines
from rfray.analysis.figures.style import (
    WIDTH,
    colour,
    headed,
    look,
    moment_name,
    note,
    say_absent,
    say_why,
)

_NORM = LogNorm(1e-3, 1.0)
_OUTLINE = "#D55E00"
_LINES = ("-", "--", ":")


def draw_erf(title: str, drawing: Drawing[EffectiveFields]) -> Figure:
    """Maps of the last convolution, one row a receptive field; below them the radius by layer.

    A frame marks the part of the image that lies in the theoretical field.
    """
    panels = drawing.panels
    moments = list(dict.fromkeys(panel.parameter for panel in panels))
    sizes = list(dict.fromkeys(panel.kernel_size for panel in panels))
    with look():
        figure = Figure(figsize=(WIDTH, 2.4 * len(sizes) + 3.6))
        figure.set_layout_engine("constrained")
        headed(figure, title)
        grid = figure.add_gridspec(
            len(sizes) + 1, len(moments), height_ratios=[1.0] * len(sizes) + [1.2]
        )
        places = {
            (panel.kernel_size, panel.parameter): figure.add_subplot(
                grid[sizes.index(panel.kernel_size), moments.index(panel.parameter)]
            )
            for panel in panels
        }
        for panel in panels:
            _map(places[panel.kernel_size, panel.parameter], panel)
        drawn = [axes.images[0] for axes in places.values() if axes.images]
        if drawn:
            bar = figure.colorbar(drawn[0], ax=list(places.values()), aspect=40, extend="min")
            bar.set_label("root mean |gradient|² over its largest value")
            bar.outline.set_visible(False)
        radii = figure.add_subplot(grid[-1, :])
        _radii(radii, panels, dict(zip(moments, _LINES, strict=False)))
        if radii.lines:
            figure.legend(
                handles=_legend(panels, dict(zip(moments, _LINES, strict=False))),
                loc="outside lower center",
                ncols=2,
            )
    return figure


def relative_gradient(fields: Sequence[EffectiveFields]) -> Floats:
    """Root of the mean over seeds of a last layer's map, each of mass 1, over its largest value."""
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
        say_absent(axes, [gap.reason for gap in panel.gaps] or ["no gradient"])
        return
    axes.set_title(f"{panel.title}\n{moment}: radius {np.mean(radii):.1f}", fontsize=8.5)
    palette = colormaps["cividis"]
    axes.imshow(
        np.ma.masked_less_equal(relative_gradient(panel.contents), 0.0),
        cmap=palette.with_extremes(bad=palette(0.0), under=palette(0.0)),
        norm=_NORM,
        interpolation="nearest",
    )
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
    axes.spines[:].set_visible(False)
    axes.set_xticks([])
    axes.set_yticks([])


def _radii(axes: Axes, panels: Sequence[Panel[EffectiveFields]], lines: dict[object, str]) -> None:
    axes.set_xlabel("place among the convolutional and linear layers")
    axes.set_ylabel("effective radius (pixels)")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    if not any(panel.contents for panel in panels):
        say_why(axes, [gap.reason for panel in panels for gap in panel.gaps])
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


def _legend(panels: Sequence[Panel[EffectiveFields]], lines: dict[object, str]) -> list[Line2D]:
    labels = {panel.kernel_size: panel.label for panel in panels if panel.contents}
    fields = [Line2D([], [], color=colour(k), label=name) for k, name in sorted(labels.items())]
    moments = [
        Line2D([], [], color="#444444", ls=style, label=moment_name(at))
        for at, style in lines.items()
    ]
    return [*fields, *moments]
