"""Figure of loss and accuracy on the lines between the seeds of each receptive field."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure, FigureBase

from rfray.analysis.artifacts import Paths
from rfray.analysis.figures.panels import Drawing, Panel, missing_lines, panels_of, reasons
from rfray.analysis.figures.parts import Legend, composed, keys
from rfray.analysis.figures.style import WIDTH, chance_line, colour, entitle, say_why

_SHOWN = {"loss": "test loss", "accuracy": "test accuracy (%)"}


def draw_barriers(title: str, *drawings: Drawing[Paths]) -> Figure:
    """Test loss and accuracy by position: one colour for each receptive field.

    A thin line is one pair of seeds, the thick line the mean over pairs. Several drawings are rows
    with common axes, each under its heading.
    """

    def rows(figure: FigureBase) -> Legend:
        places = figure.subplots(len(drawings), 2, sharex=True, sharey="col", squeeze=False)
        for row, drawing in zip(places, drawings, strict=True):
            for axes, quantity in zip(row, _SHOWN, strict=True):
                entitle(axes, drawing.heading)
                axes.set_ylabel(_SHOWN[quantity])
                _lines(axes, quantity, drawing.panels)
            chance_line(row[1], drawing.chance)
        for lowest in places[-1]:
            lowest.set_xlabel("position, first seed to second")
        panels = panels_of(drawings)
        return Legend(keys(panels), missing_lines(panels))

    return composed(title, (WIDTH, 2.4 * len(drawings) + 1.2), {"": rows})


def _lines(axes: Axes, quantity: str, panels: Sequence[Panel[Paths]]) -> None:
    if not any(panel.contents for panel in panels):
        say_why(axes, reasons(panels))
        return
    for panel in panels:
        ink = colour(panel.kernel_size)
        for paths in panel.contents:
            values = getattr(paths, quantity)
            axes.plot(paths.alphas, values.T, color=ink, lw=0.5, alpha=0.4)
            axes.plot(paths.alphas, values.mean(axis=0), color=ink, lw=1.5)
