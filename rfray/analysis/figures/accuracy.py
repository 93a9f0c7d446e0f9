"""Figures of accuracy: against the pruning rate, and dense compared with fine-tuned."""

from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure, FigureBase
from matplotlib.lines import Line2D

from rfray.analysis.figures import style
from rfray.analysis.figures.panels import Drawing, Panel, missing_lines, panels_of, reasons
from rfray.analysis.figures.parts import Legend, composed, keys
from rfray.analysis.values import show

_GREY = "#666666"
_MEASURED = "test accuracy (%), mean ± standard deviation"


def draw_pruning(title: str, *drawings: Drawing[float]) -> Figure:
    """Test accuracy against pruning rate: one line for each receptive field.

    Several drawings are side by side with common axes, each under its heading. Error bars are ± one
    standard deviation over the seeds; rate 0 is the dense network.
    """
    panels = panels_of(drawings)
    alone = len(drawings) == 1

    def grid(figure: FigureBase) -> Legend:
        places = style.side_by_side(figure, len(drawings), sharex=True)
        there = any(panel.contents for panel in panels)
        for axes, drawing in zip(places, drawings, strict=True):
            style.entitle(axes, drawing.heading)
            if not there:
                style.say_absent(axes, reasons(drawing.panels))
                continue
            _rate_lines(axes, drawing)
            style.chance_line(axes, drawing.chance)
        if not there:
            return Legend()
        _name_alone(places[0]) if alone else _name_together(figure, places)
        places[0].set_xticks(sorted({_rate(panel) for panel in panels}))
        return Legend(keys(panels, style.marker), _lacking(panels))

    height = 4.6 if alone else 2.1 * style.rows_of(len(drawings)) + 1.5
    return composed(title, (style.WIDTH, height), {"": grid})


def _name_alone(axes: Axes) -> None:
    axes.set_xlabel("pruning rate, 0 for the dense network")
    axes.set_ylabel(_MEASURED)


def _name_together(figure: FigureBase, places: Sequence[Axes]) -> None:
    for lowest in places[-style.COLUMNS :]:
        lowest.set_xlabel("pruning rate, 0: dense")
    figure.supylabel(_MEASURED, fontsize=9)


def draw_finetuning(title: str, *drawings: Drawing[float]) -> Figure:
    """Test accuracy against the receptive field, dense and fine-tuned: a panel for each rate.

    Several drawings have a panel each at each rate, under their headings. Error bars are ± one
    standard deviation over the seeds.
    """
    panels = panels_of(drawings)
    rates = sorted({_rate(panel) for panel in panels if panel.parameter is not None})
    ticks = _receptive_fields(panels)
    alone = len(drawings) == 1
    shown = [(rate, one) for rate in rates for one in (drawings if alone else _in_rows(drawings))]

    def grid(figure: FigureBase) -> Legend:
        places = style.side_by_side(figure, len(shown), sharex=False)
        for axes, (rate, drawing) in zip(places, shown, strict=True):
            if drawing is None:
                axes.set_axis_off()
                continue
            _entitle_at(rate, axes, drawing)
            _dense_and_tuned(axes, ticks, *_dense_and_at(rate, drawing))
            style.chance_line(axes, drawing.chance)
        for axes in places[:: style.COLUMNS]:
            axes.set_ylabel("test accuracy (%)")
        return Legend(_fillings(), _lacking(panels))

    height = (2.3 if alone else 2.5) * style.rows_of(len(shown)) + 1.0
    return composed(title, (style.WIDTH, height), {"": grid})


def _in_rows(drawings: Sequence[Drawing[float]]) -> list[Drawing[float] | None]:
    """The drawings, with None for each free place in the last row."""
    return [*drawings, *([None] * (-len(drawings) % style.COLUMNS))]


def _entitle_at(rate: float, axes: Axes, drawing: Drawing[float]) -> None:
    title = f"pruned at {show(rate)}"
    if drawing.heading:
        style.entitle(axes, f"{drawing.heading}, {title}")
    else:
        axes.set_title(title)


def _receptive_fields(panels: Sequence[Panel[float]]) -> dict[int, str]:
    """The label of each kernel size on the x axis: its receptive field, if a run records it."""
    names = {panel.kernel_size: panel.size or f"k = {panel.kernel_size}" for panel in panels}
    known = {p.kernel_size: p.receptive_field for p in panels if p.receptive_field is not None}
    return {size: str(known.get(size, names[size])) for size in sorted(names)}


def _dense_and_at(
    rate: float, drawing: Drawing[float]
) -> tuple[list[Panel[float]], list[Panel[float]]]:
    """The panels of the dense networks, and those at a rate."""
    dense = [panel for panel in drawing.panels if panel.parameter is None]
    pruned = [panel for panel in drawing.panels if panel.parameter is not None]
    return dense, [panel for panel in pruned if _rate(panel) == rate]


def _rate_lines(axes: Axes, drawing: Drawing[float]) -> None:
    """The lines of one drawing; if the pruned networks are missing, the reason."""
    panels = drawing.panels
    if not any(panel.contents for panel in panels):
        style.say_why(axes, reasons(panels))
        return
    for size in sorted({panel.kernel_size for panel in panels if panel.contents}):
        _rate_line(axes, [panel for panel in panels if panel.kernel_size == size])
    pruned = [panel for panel in panels if panel.parameter is not None]
    beside_others = bool(drawing.heading)
    if beside_others and not any(panel.contents for panel in pruned):
        style.note(axes, reasons(pruned)[:1])


def _rate(panel: Panel[float]) -> float:
    return 0.0 if panel.parameter is None else float(panel.parameter)


def _rate_line(axes: Axes, panels: Sequence[Panel[float]]) -> None:
    ordered = sorted((panel for panel in panels if panel.contents), key=_rate)
    rates, samples = [_rate(panel) for panel in ordered], [panel.contents for panel in ordered]
    style.error_bars(axes, rates, samples, ordered[0].kernel_size, ms=4.5, lw=1.3)


def _dense_and_tuned(
    axes: Axes,
    ticks: Mapping[int, str],
    dense: Sequence[Panel[float]],
    tuned: Sequence[Panel[float]],
) -> None:
    places = {size: place for place, size in enumerate(ticks)}
    for panels, shift, filled in ((dense, -0.12, False), (tuned, 0.12, True)):
        for panel in (panel for panel in panels if panel.contents):
            size = panel.kernel_size
            fill = style.colour(size) if filled else "white"
            style.error_bars(axes, [places[size] + shift], [panel.contents], size, mfc=fill, ms=5.5)
    axes.set_xticks(range(len(ticks)), list(ticks.values()))
    axes.set_xlabel("receptive field (pixels)")
    axes.set_xlim(-0.6, len(ticks) - 0.4)
    if not any(panel.contents for panel in tuned):
        style.note(axes, reasons(tuned)[:1])


def _fillings() -> list[Line2D]:
    return [
        Line2D([], [], color=_GREY, ls="", marker="o", mfc=fill, label=label)
        for fill, label in (("white", "dense"), (_GREY, "pruned and fine-tuned"))
    ]


def _lacking(panels: Sequence[Panel[float]]) -> list[str]:
    """The number of points that lack seeds, in words."""
    lacking = len(missing_lines(panels))
    return [f"Incomplete: {lacking} of {len(panels)} points lack seeds"] if lacking else []
