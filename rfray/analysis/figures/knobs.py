"""Figure of knobs: does accuracy follow the receptive field, or the size of the last map?"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from matplotlib.axes import Axes
from matplotlib.figure import Figure, FigureBase
from matplotlib.ticker import NullLocator
from scipy.stats import kendalltau

from rfray.analysis import schema
from rfray.analysis.figures.panels import Drawing, Panel, missing_lines, panels_of, reasons
from rfray.analysis.figures.parts import Legend, composed
from rfray.analysis.figures.style import WIDTH, chance_line, colour, error_bars, marker, say_why

_FIRST_COLOUR = 2


@dataclass(frozen=True)
class Reached:
    """Test accuracy in percent, pixels of the last map, if recorded, and the id of a training run.

    Several knobs may have the same run.
    """

    accuracy: float
    map_size: int | None
    run: str


_Place = Callable[[Panel[Reached]], int | None]


def draw_knobs(title: str, *studies: Sequence[Drawing[Reached]]) -> Figure:
    """Test accuracy against the receptive field that was reached, and against the last map's size.

    Both panels show the same networks, one line for each knob: mean ± one standard deviation over
    the seeds. Their titles give Kendall's tau over all networks and seeds. A study has one drawing
    for each knob.
    """

    def panels(drawings: Sequence[Drawing[Reached]], figure: FigureBase) -> Legend:
        places = figure.subplots(1, 2, sharey=True)
        for axes, place, name in zip(
            places, (_field, _map_size), ("receptive field", "last map"), strict=True
        ):
            _lines(axes, place, drawings)
            axes.set_title(f"{name}: {_tau_words(place, drawings)}", fontsize=8.5)
            axes.set_xlabel(f"{name} (pixels)")
            chance_line(axes, drawings[0].chance)
        places[0].set_ylabel("test accuracy (%), mean ± deviation")
        if not any(panel.contents for panel in panels_of(drawings)):
            say_why(places[0], reasons(panels_of(drawings)))
        lacking = len(missing_lines(panels_of(drawings)))
        return Legend(
            handles=[_handle(places[0], index, one) for index, one in enumerate(drawings)],
            remarks=[f"Incomplete: {lacking} points lack seeds"] if lacking else [],
            columns=len(drawings),
        )

    names = (f"study {dict(drawings[0].identity).get(schema.STUDY)}" for drawings in studies)
    bodies = {name: partial(panels, one) for name, one in zip(names, studies, strict=True)}
    return composed(title, (WIDTH, 3.9), bodies)


def _field(panel: Panel[Reached]) -> int | None:
    return panel.receptive_field


def _map_size(panel: Panel[Reached]) -> int | None:
    return panel.contents[0].map_size if panel.contents else None


def _lines(axes: Axes, place: _Place, drawings: Sequence[Drawing[Reached]]) -> None:
    ticks = set()
    for index, drawing in enumerate(drawings):
        points = [
            (where, [one.accuracy for one in panel.contents])
            for panel in drawing.panels
            if panel.contents and (where := place(panel)) is not None
        ]
        ticks |= {where for where, _ in points}
        ordered = sorted(points, key=lambda point: point[0])
        shift = 1 + 0.012 * (index - (len(drawings) - 1) / 2)  # so that equal points are seen
        error_bars(
            axes,
            [where * shift for where, _ in ordered],
            [accuracies for _, accuracies in ordered],
            _FIRST_COLOUR + index,
            # Several fields may have the same map size: a line between sizes would go up and down.
            ls="-" if place is _field else "",
            ms=5,
            lw=1.2,
        )
    axes.set_xscale("log", base=2)
    axes.xaxis.set_minor_locator(NullLocator())
    shown = _apart(sorted(ticks))
    axes.set_xticks(shown, [str(tick) for tick in shown])


def _apart(ticks: Sequence[int]) -> list[int]:
    """The ticks with room for their numbers on a logarithmic axis."""
    kept: list[int] = []
    for tick in ticks:
        if not kept or tick > 1.12 * kept[-1]:
            kept.append(tick)
    return kept


def _handle(axes: Axes, index: int, drawing: Drawing[Reached]) -> object:
    return axes.errorbar(
        [],
        [],
        color=colour(_FIRST_COLOUR + index),
        marker=marker(_FIRST_COLOUR + index),
        label=str(dict(drawing.identity)["knob"]),
    )


def _tau_words(place: _Place, drawings: Sequence[Drawing[Reached]]) -> str:
    """Kendall's tau-b of accuracy with a place in words; each network and seed counts once."""
    pairs = {
        (where, one.accuracy, one.run)
        for drawing in drawings
        for panel in drawing.panels
        for one in panel.contents
        if (where := place(panel)) is not None
    }
    if len({where for where, _, _ in pairs}) < 2:
        return "τ not defined"
    tau = kendalltau([where for where, _, _ in pairs], [value for _, value, _ in pairs]).statistic
    if math.isnan(tau):
        return "τ not defined"
    text = f"{tau:.2f}".replace("-", "−")
    return f"τ = {text}, {len(pairs)} values"
