"""Figure of the alignment between all layers of networks that differ in the seed only."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure, FigureBase

from rfray.analysis.artifacts import Alignment, Floats
from rfray.analysis.figures.panels import Drawing, Panel, parameters_of, reasons, sizes_of
from rfray.analysis.figures.parts import Legend, by_heading, composed
from rfray.analysis.figures.style import say_absent, scale_bar
from rfray.analysis.values import Scalar

_MOMENTS = {"trained": "trained", "init": "untrained"}
_MIDDLE = "#D6002A"
_UNDEFINED = "#9A9A9A"
_ALL_NAMED = 20
"""If a network has at most so many layers, the axes name all of them."""
_NAMED = 9
"""Number of layers that the axes name of a deeper network."""


def mean_over_pairs(alignment: Alignment) -> Floats:
    """Mean CKA over the pairs of seeds, (L, L); NaN where it is undefined for a pair."""
    mean: Floats = alignment.matrices.mean(axis=0)
    return mean


def middle_layer(count: int) -> int:
    """Index of the middle one of `count` layers; the later one of two."""
    return count // 2


def name_of(moment: Scalar | None) -> str:
    """The parameter `at` in figures of CKA: `trained`, `untrained`."""
    return _MOMENTS.get(str(moment), str(moment))


def draw_cka(title: str, *drawings: Drawing[Alignment]) -> Figure:
    """One heat map for each receptive field, on a scale from 0 to 1, with the middle layer in red.

    If networks were compared untrained as well, those are next to the trained ones.
    """
    beside = parameters_of(drawings)
    shown = [(size, moment) for size in sizes_of(drawings) for moment in beside]
    columns = len(beside) if len(beside) > 1 else min(2, len(shown))
    rows = -(-len(shown) // columns)

    def grid(drawing: Drawing[Alignment], figure: FigureBase) -> Legend:
        places = figure.subplots(rows, columns, squeeze=False)
        for axes in places.ravel()[len(shown) :]:
            axes.set_axis_off()
        for axes, (size, moment) in zip(places.flat, shown, strict=False):
            panel = drawing.panel(size, moment)
            _heat_map(axes, panel, _said(panel, beside)) if panel else axes.set_axis_off()
        _name_layers_once(places.tolist())
        label = "linear CKA, mean over pairs of seeds"
        scale_bar(figure, places.flat, label, shrink=0.6, aspect=30)
        return Legend()

    size = (3.2 * columns + 2.0, 3.2 * rows + 1.6)
    return composed(title, size, by_heading(grid, drawings))


def _said(panel: Panel[Alignment], beside: Sequence[Scalar | None]) -> str:
    """The title of a panel; `trained` is left out if all networks are trained."""
    if set(beside) <= {None, "trained"}:
        return panel.title
    return f"{panel.title}, {name_of(panel.parameter)}"


def _heat_map(axes: Axes, panel: Panel[Alignment], title: str) -> None:
    axes.set_title(title)
    if not panel.contents:
        say_absent(axes, reasons([panel]))
        axes.set_box_aspect(1)
        return
    alignment = panel.contents[0]
    mean = mean_over_pairs(alignment)
    axes.imshow(
        np.ma.masked_invalid(mean),
        cmap=colormaps["viridis"].with_extremes(bad=_UNDEFINED),
        vmin=0.0,
        vmax=1.0,
        origin="lower",
        interpolation="nearest",
    )
    axes.spines[:].set_visible(False)
    undefined = int(np.isnan(mean).sum())
    pairs = len(alignment.pairs)
    said = f"{pairs} pair{'s' if pairs != 1 else ''}"
    said += f", grey: {undefined} undefined" if undefined else ""
    axes.set_title(f"{title}, {said}")
    _mark_layers(axes, alignment.layers)


def _mark_layers(axes: Axes, layers: tuple[str, ...]) -> None:
    middle = middle_layer(len(layers))
    ticks = named_layers(len(layers))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_ticks(ticks, [layers[tick] for tick in ticks], fontsize=7)
        axis.get_ticklabels()[ticks.index(middle)].set_color(_MIDDLE)
    axes.tick_params(axis="x", labelrotation=90, length=2)
    axes.tick_params(axis="y", length=2)
    axes.axhline(middle, color=_MIDDLE, lw=0.9)
    axes.axvline(middle, color=_MIDDLE, lw=0.9)
    axes.set_xlabel("layer, second seed")
    axes.set_ylabel("layer, first seed")


def _name_layers_once(grid: Sequence[Sequence[Axes]]) -> None:
    """Removes the names of layers that the map to the left or below shows as well."""
    for row in grid:
        for left, axes in pairwise(row):
            if left.images:
                axes.tick_params(labelleft=False)
                axes.set_ylabel("")
    for above, below in pairwise(grid):
        for axes, named in zip(above, below, strict=True):
            if named.images:
                axes.tick_params(labelbottom=False)
                axes.set_xlabel("")


def named_layers(count: int) -> list[int]:
    """Indices of the layers that axes name: all if they are few, else some, with the middle one."""
    if count <= _ALL_NAMED:
        return list(range(count))
    middle = middle_layer(count)
    even = (round(index * (count - 1) / (_NAMED - 1)) for index in range(_NAMED))
    clear_of_middle = [tick for tick in even if abs(tick - middle) > count / (2 * _NAMED)]
    return sorted([*clear_of_middle, middle])
