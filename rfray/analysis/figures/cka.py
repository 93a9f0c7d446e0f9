"""Figures of the alignment of layers of networks that differ in the seed only: all, and equal."""

from collections.abc import Sequence
from itertools import pairwise, product

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure, FigureBase
from matplotlib.lines import Line2D

from rfray.analysis.artifacts import Alignment, Floats
from rfray.analysis.figures import style
from rfray.analysis.figures.panels import (
    Drawing,
    Panel,
    missing_lines,
    parameters_of,
    reasons,
    sizes_of,
)
from rfray.analysis.figures.parts import Legend, by_heading, composed, placed
from rfray.analysis.values import Scalar

_MOMENTS = {"trained": "trained", "init": "untrained"}
_LINES = {"trained": "-", "init": "--"}
_GREY = "#444444"
_LOWEST = -0.05
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
    shown = list(product(sizes_of(drawings), beside))
    columns = len(beside) if len(beside) > 1 else min(2, len(shown))
    rows = -(-len(shown) // columns)

    def grid(drawing: Drawing[Alignment], figure: FigureBase) -> Legend:
        places = figure.subplots(rows, columns, squeeze=False)
        for axes, panel in placed(drawing, places.flat, shown):
            _heat_map(axes, panel, _said(panel, beside))
        _name_layers_once(places.tolist())
        label = "linear CKA, mean over pairs of seeds"
        style.scale_bar(figure, places.flat, label, shrink=0.6, aspect=30)
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
        style.say_absent(axes, reasons([panel]))
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


def draw_cka_layers(title: str, *drawings: Drawing[Alignment]) -> Figure:
    """CKA of each layer with the same layer of another seed: one panel for each receptive field.

    A line is the mean over pairs of seeds, trained or untrained. A thin dotted line is the same
    with the images of the second seed shuffled.
    """
    sizes = sizes_of(drawings)

    def grid(drawing: Drawing[Alignment], figure: FigureBase) -> Legend:
        places = style.side_by_side(figure, len(sizes), sharex=False)
        for axes, size in zip(places, sizes, strict=True):
            panels = [panel for panel in drawing.panels if panel.kernel_size == size]
            _panel(axes, panels) if panels else axes.set_axis_off()
        _name_layers(places, drawing.panels)
        figure.supylabel("linear CKA of equal layers, mean over pairs of seeds", fontsize=9)
        return Legend(_handles(drawing))

    size = (style.WIDTH, 2.6 * style.rows_of(len(sizes)) + 1.2)
    return composed(title, size, by_heading(grid, drawings))


def _panel(axes: Axes, panels: Sequence[Panel[Alignment]]) -> None:
    axes.set_title(panels[0].label)
    axes.set_ylim(_LOWEST, 1.02)
    if not any(panel.contents for panel in panels):
        style.say_absent(axes, reasons(panels))
        return
    for panel in (panel for panel in panels if panel.contents):
        alignment = panel.contents[0]
        ink, line = style.colour(panel.kernel_size), _line(panel.parameter)
        axes.plot(mean_over_pairs(alignment).diagonal(), color=ink, lw=1.4, ls=line)
        # NaN, so that no line is drawn, if a run has no baseline.
        undrawn = np.full((1, len(alignment.layers)), np.nan)
        baseline = undrawn if alignment.shuffled is None else alignment.shuffled
        axes.plot(
            baseline.mean(axis=0), color=_GREY, lw=1.0, ls=":", alpha=1.0 if line == "-" else 0.5
        )
    lacking = [f"{name_of(p.parameter)}: {p.gaps[0].reason}" for p in panels if p.gaps]
    style.note(axes, lacking if len(panels) > 1 else missing_lines(panels))


def _name_layers(places: Sequence[Axes], panels: Sequence[Panel[Alignment]]) -> None:
    """Names the layers below the lowest panels; the panels above have the same layers."""
    layers = next((panel.contents[0].layers for panel in panels if panel.contents), ())
    ticks = named_layers(len(layers)) if layers else []
    for number, axes in enumerate(places):
        lowest = number >= len(places) - style.COLUMNS
        axes.set_xticks(ticks, [layers[tick] for tick in ticks] if lowest else [""] * len(ticks))
        axes.tick_params(axis="x", labelrotation=90, labelsize=6.5)


def _line(moment: Scalar | None) -> str:
    return _LINES.get(str(moment), "-")


def _handles(drawing: Drawing[Alignment]) -> list[Line2D]:
    ink = style.colour(drawing.panels[0].kernel_size) if len(drawing.panels) == 1 else _GREY
    handles = [
        Line2D([], [], color=ink, lw=1.4, ls=_line(moment), label=name_of(moment))
        for moment in parameters_of([drawing])
    ]
    contents = [content for panel in drawing.panels for content in panel.contents]
    if any(content.shuffled is not None for content in contents):
        label = "images of one network shuffled"
        handles.append(Line2D([], [], color=_GREY, lw=1.0, ls=":", label=label))
    return handles
