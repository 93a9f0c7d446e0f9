"""Figure of the loss and the accuracy on the lines between the seeds of each receptive field."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from rfray.analysis.artifacts import Paths
from rfray.analysis.figures.panels import Drawing, Panel, missing_lines
from rfray.analysis.figures.style import (
    WIDTH,
    chance_line,
    colour,
    entitle,
    headed,
    look,
    say_why,
    shortened,
)

_SHOWN = {"loss": "test loss", "accuracy": "test accuracy (%)"}


def draw_barriers(title: str, drawings: Sequence[Drawing[Paths]]) -> Figure:
    """Test loss and accuracy by position: one colour a receptive field, thin lines its pairs.

    The thick line is the mean over pairs. Several drawings stand in rows on common axes, each under
    its heading.
    """
    panels = [panel for drawing in drawings for panel in drawing.panels]
    with look():
        figure = Figure(figsize=(WIDTH, 2.4 * len(drawings) + 1.2))
        figure.set_layout_engine("constrained")
        headed(figure, title)
        places = figure.subplots(len(drawings), 2, sharex=True, sharey="col", squeeze=False)
        for row, drawing in zip(places, drawings, strict=True):
            for axes, quantity in zip(row, _SHOWN, strict=True):
                entitle(axes, drawing.heading)
                axes.set_ylabel(_SHOWN[quantity])
                _lines(axes, quantity, drawing.panels)
            chance_line(row[1], drawing.chance)
        for lowest in places[-1]:
            lowest.set_xlabel("position, first seed to second")
        _legend(figure, panels)
    return figure


def _lines(axes: Axes, quantity: str, panels: Sequence[Panel[Paths]]) -> None:
    if not any(panel.contents for panel in panels):
        say_why(axes, [gap.reason for panel in panels for gap in panel.gaps])
        return
    for panel in panels:
        ink = colour(panel.kernel_size)
        for paths in panel.contents:
            values = getattr(paths, quantity)
            axes.plot(paths.alphas, values.T, color=ink, lw=0.5, alpha=0.4)
            axes.plot(paths.alphas, values.mean(axis=0), color=ink, lw=1.5)


def _legend(figure: Figure, panels: Sequence[Panel[Paths]]) -> None:
    labels = {panel.label: panel.kernel_size for panel in panels if panel.contents}
    if labels:
        figure.legend(
            handles=[Line2D([], [], color=colour(size), label=one) for one, size in labels.items()],
            loc="outside lower center",
            ncols=2,
            title=shortened(missing_lines(panels)),
            title_fontsize=7.5,
        )
