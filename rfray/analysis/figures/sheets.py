"""Sheets: which drawings are the panels of one figure. Pure."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Generic

from rfray.analysis import schema
from rfray.analysis.figures.panels import Content, Drawing
from rfray.analysis.frame import StudyFrame
from rfray.analysis.slots import Identity, only, without
from rfray.analysis.values import Scalar, show

MOST_PANELS = 12
"""More panels in one figure would fill more than a page."""

_FIGURES_APART = frozenset({"dataset", "arch"})
"""Axes whose values never share a figure: accuracies on two data sets have no common scale."""


@dataclass(frozen=True)
class Sheet(Generic[Content]):
    """The contents of one figure.

    Attributes:
        identity: The axes and values that its drawings have in common.
        drawings: Its drawings in the study's order; the heading of each says how it differs.
        rate: The pruning rate of the figure, if each rate has its own figure.
    """

    identity: Identity
    drawings: tuple[Drawing[Content], ...]
    rate: Scalar | None = None


def sheets(drawings: Iterable[Drawing[Content]], frame: StudyFrame) -> list[Sheet[Content]]:
    """One sheet for each data set and network, with a panel for each value of a further axis.

    If there are more than `MOST_PANELS` of them, each has its own sheet.
    """
    return [
        sheet
        for beside in _by_network(drawings, frame)
        for sheet in ([_sheet(beside)] if len(beside) <= MOST_PANELS else _apart(beside))
    ]


def sheets_by_study(
    drawings: Iterable[Drawing[Content]], frame: StudyFrame
) -> list[Sheet[Content]]:
    """One sheet for each drawing; drawings that differ in the study only share one."""
    beside = _grouped(drawings, frame, lambda identity: without(identity, schema.STUDY))
    return [_sheet(those) for those in beside]


def sheets_by_rate(drawings: Iterable[Drawing[Content]], frame: StudyFrame) -> list[Sheet[Content]]:
    """As `sheets`, for a figure with a panel for each pruning rate.

    If there are more than `MOST_PANELS` panels at all rates, each rate has its own sheet.
    """
    found: list[Sheet[Content]] = []
    for beside in _by_network(drawings, frame):
        rates = _rates(beside)
        if len(beside) == 1 or len(beside) * len(rates) <= MOST_PANELS:
            found.append(_sheet(beside))
        elif len(beside) <= MOST_PANELS:
            found += [replace(_sheet(_at(rate, beside)), rate=rate) for rate in rates]
        else:
            found += _apart(beside)
    return found


def _by_network(
    drawings: Iterable[Drawing[Content]], frame: StudyFrame
) -> list[list[Drawing[Content]]]:
    return _grouped(drawings, frame, lambda identity: only(identity, _FIGURES_APART))


def _grouped(
    drawings: Iterable[Drawing[Content]], frame: StudyFrame, shared: Callable[[Identity], Identity]
) -> list[list[Drawing[Content]]]:
    """The drawings, grouped by a part of their identity; each group in the study's order."""
    grouped: dict[Identity, list[Drawing[Content]]] = {}
    for drawing in drawings:
        grouped.setdefault(shared(drawing.identity), []).append(drawing)
    return [
        sorted(those, key=lambda one: frame.position(one.identity)) for those in grouped.values()
    ]


def _sheet(drawings: Sequence[Drawing[Content]]) -> Sheet[Content]:
    common = tuple(
        pair for pair in drawings[0].identity if all(pair in one.identity for one in drawings)
    )
    return Sheet(common, tuple(replace(d, heading=_heading(d.identity, common)) for d in drawings))


def _heading(identity: Identity, common: Identity) -> str:
    return ", ".join(f"{axis} {show(v)}" for axis, v in identity if (axis, v) not in common)


def _apart(drawings: Iterable[Drawing[Content]]) -> list[Sheet[Content]]:
    return [Sheet(drawing.identity, (drawing,)) for drawing in drawings]


def _rates(drawings: Iterable[Drawing[Content]]) -> list[Scalar]:
    found = (panel.parameter for drawing in drawings for panel in drawing.panels)
    return list(dict.fromkeys(rate for rate in found if rate is not None))


def _at(rate: Scalar, drawings: Iterable[Drawing[Content]]) -> list[Drawing[Content]]:
    """The drawings with the panels of dense networks and of one rate only."""
    return [
        replace(drawing, panels=tuple(p for p in drawing.panels if p.parameter in (None, rate)))
        for drawing in drawings
    ]
