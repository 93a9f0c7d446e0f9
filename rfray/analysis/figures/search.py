"""Figure of a search: the accuracy of each sample against each searched setting."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, FigureBase
from matplotlib.lines import Line2D

from rfray.analysis.artifacts import Floats, Samples
from rfray.analysis.figures.panels import Drawing, Panel, missing_lines, panels_of, reasons
from rfray.analysis.figures.parts import Legend, by_heading, composed, keys
from rfray.analysis.figures.style import WIDTH, chance_line, colour, marker, say_absent
from rfray.parameters import is_number

_DECADES = 20
"""The axis is logarithmic if the highest value divided by the lowest exceeds this."""


def draw_search(title: str, *drawings: Drawing[Samples]) -> Figure:
    """Validation accuracy against each searched setting: a panel for each setting.

    A hollow sample was stopped early. A sample that diverged has no accuracy and is not drawn.
    """
    tried = [samples for panel in panels_of(drawings) for samples in panel.contents]
    names = list(dict.fromkeys(name for samples in tried for name in samples.settings))

    def column(drawing: Drawing[Samples], figure: FigureBase) -> Legend:
        places = figure.subplots(max(1, len(names)), 1, squeeze=False)[:, 0]
        if not any(panel.contents for panel in drawing.panels):
            for axes in places:
                say_absent(axes, reasons(drawing.panels))
            return Legend()
        for axes, name in zip(places, names, strict=True):
            everything = [value for samples in tried for value in samples.settings.get(name, [])]
            _setting(axes, name, drawing.panels, everything)
            axes.set_ylabel("validation accuracy (%)")
            chance_line(axes, drawing.chance)
        return Legend(_handles(drawing.panels), missing_lines(drawing.panels))

    size = (WIDTH, 2.6 * max(1, len(names)) + 1.0)
    return composed(title, size, by_heading(column, drawings))


def _setting(
    axes: Axes, name: str, panels: Sequence[Panel[Samples]], everything: Sequence[object]
) -> None:
    """The samples of one search, on an axis with all values that were tried."""
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
    handles = keys(panels, marker, ls="")
    if any(samples.stopped.any() for panel in panels for samples in panel.contents):
        hollow = Line2D([], [], ls="", marker="o", color="#777777", mfc="white")
        hollow.set_label("stopped early")
        handles.append(hollow)
    return handles
