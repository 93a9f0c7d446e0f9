"""Figure of the alignment of equal layers: trained, untrained, and with shuffled images."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, FigureBase
from matplotlib.lines import Line2D

from rfray.analysis.artifacts import Alignment, Floats
from rfray.analysis.figures.cka import mean_over_pairs, name_of, named_layers
from rfray.analysis.figures.panels import (
    Drawing,
    Panel,
    missing_lines,
    parameters_of,
    reasons,
    sizes_of,
)
from rfray.analysis.figures.parts import Legend, by_heading, composed
from rfray.analysis.figures.style import (
    COLUMNS,
    WIDTH,
    colour,
    note,
    rows_of,
    say_absent,
    side_by_side,
)
from rfray.analysis.values import Scalar

_GREY = "#444444"
_LINES = {"trained": "-", "init": "--"}
_LOWEST = -0.05


def draw_cka_layers(title: str, *drawings: Drawing[Alignment]) -> Figure:
    """CKA of each layer with the same layer of another seed: one panel for each receptive field.

    A line is the mean over pairs of seeds, trained or untrained. A thin dotted line is the same
    with the images of the second seed shuffled.
    """
    sizes = sizes_of(drawings)

    def grid(drawing: Drawing[Alignment], figure: FigureBase) -> Legend:
        places = side_by_side(figure, len(sizes), sharex=False)
        for axes, size in zip(places, sizes, strict=True):
            panels = [panel for panel in drawing.panels if panel.kernel_size == size]
            _panel(axes, panels) if panels else axes.set_axis_off()
        _name_layers(places, drawing.panels)
        figure.supylabel("linear CKA of equal layers, mean over pairs of seeds", fontsize=9)
        return Legend(_handles(drawing))

    size = (WIDTH, 2.6 * rows_of(len(sizes)) + 1.2)
    return composed(title, size, by_heading(grid, drawings))


def _panel(axes: Axes, panels: Sequence[Panel[Alignment]]) -> None:
    axes.set_title(panels[0].label)
    axes.set_ylim(_LOWEST, 1.02)
    if not any(panel.contents for panel in panels):
        say_absent(axes, reasons(panels))
        return
    for panel in (panel for panel in panels if panel.contents):
        alignment, ink, line = panel.contents[0], colour(panel.kernel_size), _line(panel.parameter)
        axes.plot(mean_over_pairs(alignment).diagonal(), color=ink, lw=1.4, ls=line)
        baseline = _baseline(alignment)
        axes.plot(baseline, color=_GREY, lw=1.0, ls=":", alpha=1.0 if line == "-" else 0.5)
    lacking = [f"{name_of(p.parameter)}: {p.gaps[0].reason}" for p in panels if p.gaps]
    note(axes, lacking if len(panels) > 1 else missing_lines(panels))


def _baseline(alignment: Alignment) -> Floats:
    """Mean over pairs, (L,); NaN, so that no line is drawn, if a run has no baseline."""
    if alignment.shuffled is None:
        return np.full(len(alignment.layers), np.nan)
    mean: Floats = alignment.shuffled.mean(axis=0)
    return mean


def _name_layers(places: Sequence[Axes], panels: Sequence[Panel[Alignment]]) -> None:
    """Names the layers below the lowest panels; the panels above have the same layers."""
    layers = next((panel.contents[0].layers for panel in panels if panel.contents), ())
    ticks = named_layers(len(layers)) if layers else []
    for number, axes in enumerate(places):
        lowest = number >= len(places) - COLUMNS
        axes.set_xticks(ticks, [layers[tick] for tick in ticks] if lowest else [""] * len(ticks))
        axes.tick_params(axis="x", labelrotation=90, labelsize=6.5)


def _line(moment: Scalar | None) -> str:
    return _LINES.get(str(moment), "-")


def _handles(drawing: Drawing[Alignment]) -> list[Line2D]:
    ink = colour(drawing.panels[0].kernel_size) if len(drawing.panels) == 1 else _GREY
    handles = [
        Line2D([], [], color=ink, lw=1.4, ls=_line(moment), label=name_of(moment))
        for moment in parameters_of([drawing])
    ]
    contents = [content for panel in drawing.panels for content in panel.contents]
    if any(content.shuffled is not None for content in contents):
        label = "images of one network shuffled"
        handles.append(Line2D([], [], color=_GREY, lw=1.0, ls=":", label=label))
    return handles
