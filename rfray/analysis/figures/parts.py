"""The structure of every figure: its title, a part for each study, one legend below all parts."""

import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import zip_longest
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, FigureBase
from matplotlib.lines import Line2D

from rfray.analysis.figures.panels import Content, Drawing, Panel
from rfray.analysis.figures.style import COLUMNS, colour, look, shortened
from rfray.analysis.values import Scalar

_TITLE_CHARACTERS_AN_INCH = 11


@dataclass(frozen=True)
class Legend:
    """The legend below a figure.

    Attributes:
        handles: Its entries; of entries with the same label the first is shown. Without entries
            there is no legend.
        remarks: Lines above the entries, for example what is missing.
        columns: Number of columns of entries.
    """

    handles: Sequence[Any] = ()
    remarks: Sequence[str] = ()
    columns: int = 2


Own = tuple[int, Scalar | None]
"""A kernel size, and a value of the stage's own parameter."""

Body = Callable[[FigureBase], Legend]
"""Draws panels into a figure, or into a part of one, and returns its legend."""


def by_heading(
    draw: Callable[[Drawing[Content], FigureBase], Legend], drawings: Iterable[Drawing[Content]]
) -> dict[str, Body]:
    """The bodies that draw one drawing each, by the heading of the drawing."""
    return {drawing.heading: partial(draw, drawing) for drawing in drawings}


def placed(
    drawing: Drawing[Content], places: Iterable[Axes], shown: Iterable[Own]
) -> Iterator[tuple[Axes, Panel[Content]]]:
    """The panels of a drawing with their places; a place without a panel is left blank."""
    panels = {(panel.kernel_size, panel.parameter): panel for panel in drawing.panels}
    for axes, own in zip_longest(places, shown):
        if own in panels:
            yield axes, panels[own]
        else:
            axes.set_axis_off()


def composed(title: str, size: tuple[float, float], bodies: Mapping[str, Body]) -> Figure:
    """A figure in the shared style, with a part of this size in inches for each heading.

    Parts that are taller than wide are next to each other, others below each other. The same panel
    of each part has the same axes. A single part is the whole figure, without a heading.
    """
    width, height = size
    columns = min(COLUMNS, len(bodies)) if height > width else 1
    rows = -(-len(bodies) // columns)
    with look():
        figure = Figure(figsize=(width * columns, height * rows))
        figure.set_layout_engine("constrained")
        figure.suptitle(
            textwrap.fill(title, int(figure.get_figwidth() * _TITLE_CHARACTERS_AN_INCH))
        )
        parts: Sequence[FigureBase] = [figure]
        if len(bodies) > 1:
            parts = list(figure.subfigures(rows, columns, squeeze=False).flat)[: len(bodies)]
            for part, heading in zip(parts, bodies, strict=True):
                part.suptitle(heading)
        legends = {
            name: body(part) for (name, body), part in zip(bodies.items(), parts, strict=True)
        }
        for those in zip(*(part.axes for part in parts), strict=False):
            _share([axes for axes in those if axes.lines and not axes.images])
        _put_below(figure, legends)
    return figure


def _share(panels: Sequence[Axes]) -> None:
    """Gives panels with curves the same axes."""
    ends = np.array([(axes.get_xlim(), axes.get_ylim()) for axes in panels])
    for axes in panels if len(panels) > 1 else ():
        axes.set_xlim(ends[:, 0].min(), ends[:, 0].max())
        axes.set_ylim(ends[:, 1].min(), ends[:, 1].max())


def _put_below(figure: Figure, legends: Mapping[str, Legend]) -> None:
    """One legend for all parts; if there are several, its remarks name their part."""
    handles: dict[str, Any] = {}
    remarks: list[str] = []
    for heading, legend in legends.items():
        for handle in legend.handles:
            handles.setdefault(handle.get_label(), handle)
        of_part = f"{heading}: " if len(legends) > 1 else ""
        remarks += [f"{of_part}{remark}" for remark in legend.remarks]
    if handles:
        figure.legend(
            handles=list(handles.values()),
            loc="outside lower center",
            ncols=next(iter(legends.values())).columns,
            title=shortened(remarks),
            title_fontsize=7.5,
        )


def keys(
    panels: Iterable[Panel[Content]], shape: Callable[[int], str] = lambda size: "", **look: Any
) -> list[Line2D]:
    """Entries of a legend: one for each receptive field with results, in its colour and marker."""
    labels = {panel.label: panel.kernel_size for panel in panels if panel.contents}
    return [
        Line2D([], [], color=colour(size), marker=shape(size), label=label, **look)
        for label, size in sorted(labels.items(), key=lambda pair: pair[1])
    ]
