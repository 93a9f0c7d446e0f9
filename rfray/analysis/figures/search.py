"""Figure of a search: how good each sample was, against each setting that was searched."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from rfray.analysis.artifacts import Floats, Samples
from rfray.analysis.figures.panels import Drawing, Panel, missing_lines
from rfray.analysis.figures.style import (
    WIDTH,
    chance_line,
    colour,
    headed,
    look,
    marker,
    say_absent,
    shortened,
)
from rfray.analysis.values import is_number

_DECADES = 20
"""Values that span more than this, highest over lowest, are drawn on a logarithmic axis."""


def draw_search(title: str, drawing: Drawing[Samples]) -> Figure:
    """Validation accuracy against each searched setting: a panel a setting, a colour a kernel size.

    A hollow sample was stopped early; one that diverged has no accuracy and is not drawn.
    """
    names = dict.fromkeys(n for p in drawing.panels for s in p.contents for n in s.settings)
    with look():
        figure = Figure(figsize=(WIDTH, 2.6 * max(1, len(names)) + 1.0))
        figure.set_layout_engine("constrained")
        headed(figure, title)
        grid = figure.subplots(max(1, len(names)), 1, squeeze=False)
        if not names:
            say_absent(grid[0, 0], [gap.reason for gap in drawing.gaps])
            return figure
        for axes, name in zip(grid[:, 0], names, strict=True):
            _setting(axes, name, drawing.panels)
            axes.set_ylabel("validation accuracy (%)")
            chance_line(axes, drawing.chance)
        figure.legend(
            handles=_handles(drawing.panels),
            loc="outside lower center",
            ncols=2,
            title=shortened(missing_lines(drawing.panels)),
            title_fontsize=7.5,
        )
    return figure


def _setting(axes: Axes, name: str, panels: Sequence[Panel[Samples]]) -> None:
    everything = [v for p in panels for s in p.contents for v in s.settings.get(name, [])]
    numeric = all(map(is_number, everything))
    words = [] if numeric else list(dict.fromkeys(map(str, everything)))
    for panel in panels:
        for samples in panel.contents:
            values = samples.settings.get(name, [])
            places = [float(str(v)) if numeric else float(words.index(str(v))) for v in values]
            _points(axes, np.array(places, dtype=np.float64), samples, panel.kernel_size)
    axes.set_xlabel(name)
    if words:
        axes.set_xticks(range(len(words)), words)
        return
    numbers = [float(str(value)) for value in everything]
    if min(numbers) > 0 and max(numbers) > _DECADES * min(numbers):
        axes.set_xscale("log")


def _points(axes: Axes, places: Floats, samples: Samples, kernel_size: int) -> None:
    for stopped, fill in ((False, colour(kernel_size)), (True, "white")):
        shown = samples.stopped == stopped
        axes.plot(
            places[shown],
            samples.accuracy[shown],
            ls="",
            marker=marker(kernel_size),
            color=colour(kernel_size),
            mfc=fill,
            ms=4.5,
        )


def _handles(panels: Sequence[Panel[Samples]]) -> list[Line2D]:
    handles = [
        Line2D(
            [], [], ls="", color=colour(p.kernel_size), marker=marker(p.kernel_size), label=p.label
        )
        for p in panels
        if p.contents
    ]
    if any(samples.stopped.any() for panel in panels for samples in panel.contents):
        hollow = Line2D([], [], ls="", marker="o", color="#777777", mfc="white")
        hollow.set_label("stopped early")
        handles.append(hollow)
    return handles
