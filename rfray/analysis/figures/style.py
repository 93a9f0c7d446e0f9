"""The look that all figures share: fonts, one colour a kernel size, where a panel has no data."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure, FigureBase
from numpy.typing import NDArray

# Okabe and Ito's colour-blind safe palette, less the yellow, which is too pale for lines.
_COLOURS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#000000")
WIDTH = 5.6
"""Inches of a figure of one column: as much as a page or a phone shows with its letters legible."""

COLUMNS = 2
"""Panels side by side in that width."""

_MOMENTS = {"init": "at initialisation", "trained": "after training"}
_MARKERS = ("o", "s", "^", "D", "v", "P", "X")
_SMALLEST_KERNEL = 2
_TITLE_CHARACTERS_AN_INCH = 11
_PANEL_TITLE_CHARACTERS = 38
_NO_BREAK = "\u00a0"

_LOOK: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 9.0,
    "axes.titlesize": 9.5,
    # A fixed height: matplotlib otherwise measures every tick label to find one.
    "axes.titley": 1.0,
    "axes.labelsize": 9.0,
    "axes.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.labelsize": 8.0,
    "ytick.labelsize": 8.0,
    "legend.fontsize": 8.5,
    "legend.frameon": False,
    "figure.titlesize": 11.0,
    "figure.dpi": 100,
    "pdf.fonttype": 42,
    # Letters as outlines, so that a figure looks the same without its font; names by content.
    "svg.fonttype": "path",
    "svg.hashsalt": "rfray",
}


def colour(kernel_size: int) -> str:
    """The colour of a kernel size, hence of a receptive field, the same in every figure."""
    return _COLOURS[(kernel_size - _SMALLEST_KERNEL) % len(_COLOURS)]


def marker(kernel_size: int) -> str:
    """The marker of a kernel size, so that lines can be told apart in grey as well."""
    return _MARKERS[(kernel_size - _SMALLEST_KERNEL) % len(_MARKERS)]


def moment_name(at: object) -> str:
    """`after training` for `trained`, of stages that look at a network at several moments."""
    return _MOMENTS.get(str(at), str(at))


def note(axes: Axes, lines: Iterable[str]) -> None:
    """Writes into the upper right corner of a panel what it cannot show."""
    axes.text(
        0.98, 0.98, shortened(lines), transform=axes.transAxes, ha="right", va="top", fontsize=7.5
    )


def shortened(lines: Iterable[str]) -> str:
    """Remarks for a figure, each cut to the width of one."""
    return "\n".join(textwrap.shorten(line, 48, placeholder=" …") for line in lines)


@contextmanager
def look() -> Iterator[None]:
    """The shared look, for the time in which a figure is made or rendered."""
    with mpl.rc_context(_LOOK):
        yield


def headed(figure: Figure, title: str) -> Figure:
    """The figure with its title, in as many lines as its width asks for."""
    figure.suptitle(textwrap.fill(title, int(figure.get_figwidth() * _TITLE_CHARACTERS_AN_INCH)))
    return figure


def side_by_side(figure: FigureBase, count: int, *, sharex: bool) -> list[Axes]:
    """Panels in as few rows of two as hold them, with one y axis for all; what is over is blank.

    Where they share an x axis as well, it stands below the last panel of each column.
    """
    columns = min(COLUMNS, count)
    rows = rows_of(count)
    grid = figure.subplots(rows, columns, sharex=sharex, sharey=True, squeeze=False)
    places = list(grid.ravel())
    for blank in places[count:]:
        blank.set_axis_off()
    for lowest in places[max(count - columns, 0) : count]:
        lowest.tick_params(labelbottom=True)
    return places[:count]


def rows_of(count: int) -> int:
    """How many rows so many panels side by side take."""
    return -(-count // COLUMNS)


def entitle(axes: Axes, title: str) -> None:
    """A panel's title, in as many lines as half of a figure's width asks for.

    It breaks behind a comma where it can, so that an axis and its value keep together.
    """
    parts = ", ".join(
        part.replace(" ", _NO_BREAK) if len(part) < _PANEL_TITLE_CHARACTERS else part
        for part in title.split(", ")
    )
    lines = textwrap.wrap(parts, _PANEL_TITLE_CHARACTERS, break_on_hyphens=False)
    axes.set_title("\n".join(lines).replace(_NO_BREAK, " "), fontsize=8.5)


def heat_map(axes: Axes, values: NDArray[np.float64], norm: LogNorm) -> None:
    """Draws pixels, (H, W), on a logarithmic scale; what is 0 has its darkest colour."""
    palette = colormaps["cividis"]
    axes.imshow(
        np.ma.masked_less_equal(values, 0.0),
        cmap=palette.with_extremes(bad=palette(0.0), under=palette(0.0)),
        norm=norm,
        interpolation="nearest",
    )
    axes.spines[:].set_visible(False)
    axes.set_xticks([])
    axes.set_yticks([])


def chance_line(axes: Axes, chance: float | None) -> None:
    """A dotted line at the accuracy of guessing, per cent; none where that is not known."""
    if chance is None:
        return
    axes.axhline(chance, color="#999999", lw=0.8, ls=":", zorder=0)
    axes.annotate(
        "chance",
        (0, chance),
        xycoords=("axes fraction", "data"),
        xytext=(3, 2),
        textcoords="offset points",
        ha="left",
        va="bottom",
        fontsize=7,
        color="#777777",
    )


def say_absent(axes: Axes, reasons: Iterable[str]) -> None:
    """Writes into an empty panel why it is empty, and takes its axes away."""
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set(visible=True, color="#CCCCCC")
    say_why(axes, reasons)


def say_why(axes: Axes, reasons: Iterable[str]) -> None:
    """Writes into an empty panel why it is empty; the axes that it shares with others stay."""
    distinct = list(dict.fromkeys(reasons))
    shown = [*distinct[:3], *(["…"] if len(distinct) > 3 else [])]
    text = "\n".join(textwrap.fill(reason, 26) for reason in shown)
    axes.text(
        0.5,
        0.5,
        text,
        transform=axes.transAxes,
        ha="center",
        va="center",
        fontsize=7.5,
        color="#666666",
    )


def rendered(figure: Figure) -> dict[str, bytes]:
    """The figure as the bytes of a `png`, `pdf` and `svg` file, the same for the same figure."""
    with look():
        # The layout takes longer than the drawing, and is the same for all formats.
        figure.draw_without_rendering()
        figure.set_layout_engine("none")
        return {
            "png": _saved(figure, "png", {"Software": None}),
            "pdf": _saved(figure, "pdf", {"CreationDate": None}),
            "svg": _saved(figure, "svg", {"Creator": None, "Date": None}),
        }


def _saved(figure: Figure, file_format: str, metadata: dict[str, None]) -> bytes:
    stream = io.BytesIO()
    figure.savefig(stream, format=file_format, dpi=200, metadata=metadata)
    return stream.getvalue()
