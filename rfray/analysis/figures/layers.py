"""Figures of numbers by layer: accuracy of linear probes, saturation."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure, FigureBase
from matplotlib.lines import Line2D

from rfray.analysis.artifacts import ByLayer
from rfray.analysis.figures import style
from rfray.analysis.figures.panels import Drawing, Panel, missing_lines, parameters_of, reasons
from rfray.analysis.figures.parts import Legend, by_heading, composed, keys

_ALL_NAMED = 20
"""If a network has at most so many layers, the axis names all of them."""
_NAMED = 12
"""The largest number of layers that the axis names of a deeper network."""
_EXCEEDS = "field_exceeds_image"
_TAIL = "in_tail"


def draw_probe(title: str, *drawings: Drawing[ByLayer]) -> Figure:
    """Accuracy of linear probes by layer: a colour for each receptive field, a line for each seed.

    A large marker shows where accuracy no longer rises, a dashed line where the receptive field
    first exceeds the image.
    """

    def panel(drawing: Drawing[ByLayer], figure: FigureBase) -> Legend:
        axes = figure.subplots()
        _lines(axes, drawing.panels)
        axes.set_ylabel("accuracy of a linear probe (%)")
        style.chance_line(axes, drawing.chance)
        marks = [
            Line2D([], [], color="#444444", marker="o", ms=7, ls="", label="no later rise"),
            Line2D([], [], color="#444444", ls="--", lw=1, label="field exceeds the image"),
        ]
        there = keys(drawing.panels, style.marker, ms=4)
        return Legend([*there, *marks] if there else ())

    return composed(title, _size(1), by_heading(panel, drawings))


def draw_saturation(title: str, *drawings: Drawing[ByLayer]) -> Figure:
    """Saturation by layer: a panel for each value of `at`, one line for each seed."""
    moments = parameters_of(drawings)

    def column(drawing: Drawing[ByLayer], figure: FigureBase) -> Legend:
        places = figure.subplots(len(moments), 1, squeeze=False, sharex=True, sharey=True)[:, 0]
        for axes, moment in zip(places, moments, strict=True):
            _lines(axes, [panel for panel in drawing.panels if panel.parameter == moment])
            axes.set_title(style.moment_name(moment))
            axes.set_ylabel("saturation")
        for upper in places[:-1]:
            upper.set_xlabel("")
        return Legend(keys(drawing.panels, style.marker, ms=4))

    return composed(title, _size(len(moments)), by_heading(column, drawings))


def _size(panels: int) -> tuple[float, float]:
    return style.WIDTH, 2.5 * panels + 2.2


def _lines(axes: Axes, panels: Sequence[Panel[ByLayer]]) -> None:
    """The numbers by layer, with the marks of each receptive field."""
    drawn = [content for panel in panels for content in panel.contents]
    if not drawn:
        style.say_absent(axes, reasons(panels))
        return
    for panel in panels:
        ink, shape = style.colour(panel.kernel_size), style.marker(panel.kernel_size)
        for content in panel.contents:
            axes.plot(content.values, color=ink, marker=shape, ms=2.5, lw=1.0, alpha=0.8)
            start = content.starts.get(_TAIL, len(content.values))
            for place in [start] if start < len(content.values) else []:
                axes.plot(place, content.values[place], color=ink, marker=shape, ms=7, alpha=0.8)
        _field_lines(axes, panel)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("layer")
    _name_layers(axes, max((content.layers for content in drawn), key=len))
    style.note(axes, missing_lines(panels))


def _field_lines(axes: Axes, panel: Panel[ByLayer]) -> None:
    """Lines where the receptive field first exceeds the image, moved so that each is seen."""
    places = {content.starts[_EXCEEDS] for content in panel.contents if _EXCEEDS in content.starts}
    beside = 0.08 * (panel.kernel_size - 3.5)
    for place in places:
        if place < max(len(content.layers) for content in panel.contents):
            ink = style.colour(panel.kernel_size)
            axes.axvline(place + beside, color=ink, ls="--", lw=1, zorder=0)


def _name_layers(axes: Axes, layers: Sequence[str]) -> None:
    step = 1 if len(layers) <= _ALL_NAMED else -(-len(layers) // _NAMED)
    named = range(0, len(layers), step)
    axes.set_xticks(named, [layers[place] for place in named], rotation=90, fontsize=7)
