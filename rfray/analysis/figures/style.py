"""The style that all figures share: fonts, a colour for each kernel size, panels without data."""

import io
import math
import textwrap
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure, FigureBase
from numpy.typing import NDArray

from rfray.analysis.statistics import summarize

# Okabe and Ito's colour-blind safe palette, without the yellow, which is too pale for lines.
_COLOURS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#000000")
WIDTH = 5.6
"""Width of a figure of one column, in inches: its text can be read on a page and on a phone."""

COLUMNS = 2
"""Number of panels side by side in that width."""

_MOMENTS = {"init": "at initialisation", "trained": "after training"}
_MARKERS = ("o", "s", "^", "D", "v", "P", "X")
_SMALLEST_KERNEL = 2
_PANEL_TITLE_CHARACTERS = 38
_NO_BREAK = "\u00a0"

_LOOK: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 9.0,
    "axes.titlesize": 9.5,
    # A fixed height, because else matplotlib measures every tick label.
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
    # Letters as outlines: a figure looks the same without its font. Ids depend on the content only.
    "svg.fonttype": "path",
    "svg.hashsalt": "rfray",
}


def colour(kernel_size: int) -> str:
    """The colour of a kernel size, and so of a receptive field: the same in every figure."""
    return _COLOURS[(kernel_size - _SMALLEST_KERNEL) % len(_COLOURS)]


def marker(kernel_size: int) -> str:
    """The marker of a kernel size, so that lines differ in black and white as well."""
    return _MARKERS[(kernel_size - _SMALLEST_KERNEL) % len(_MARKERS)]


def moment_name(at: object) -> str:
    """The parameter `at` of a stage in words: `after training` for `trained`."""
    return _MOMENTS.get(str(at), str(at))


def error_bars(
    axes: Axes,
    places: Sequence[float],
    samples: Iterable[Sequence[float]],
    kernel_size: int,
    **look: Any,
) -> None:
    """Draws the mean of each sample ± one standard deviation; a single value has no bar.

    Colour and marker are those of the kernel size.
    """
    summaries = [summarize(sample) for sample in samples]
    axes.errorbar(
        places,
        [summary.mean for summary in summaries],
        yerr=[0.0 if math.isnan(summary.std) else summary.std for summary in summaries],
        color=colour(kernel_size),
        marker=marker(kernel_size),
        capsize=2.5,
        **look,
    )


def note(axes: Axes, lines: Iterable[str]) -> None:
    """Writes remarks into the upper right corner of a panel."""
    axes.text(
        0.98, 0.98, shortened(lines), transform=axes.transAxes, ha="right", va="top", fontsize=7.5
    )


def shortened(lines: Iterable[str]) -> str:
    """Remarks for a figure, each shortened to its width."""
    return "\n".join(textwrap.shorten(line, 48, placeholder=" …") for line in lines)


def look() -> AbstractContextManager[None]:
    """The shared style, while a figure is made or rendered."""
    return mpl.rc_context(_LOOK)


def side_by_side(figure: FigureBase, count: int, *, sharex: bool) -> list[Axes]:
    """Panels in rows of two with a common y axis; a place that is left over stays blank.

    A shared x axis is below the last panel of each column.
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
    """Number of rows that this number of panels needs."""
    return -(-count // COLUMNS)


def entitle(axes: Axes, title: str) -> None:
    """Sets a panel's title, broken into lines that fit half of a figure's width.

    Lines break after a comma if possible, so that an axis and its value stay together.
    """
    parts = ", ".join(
        part.replace(" ", _NO_BREAK) if len(part) < _PANEL_TITLE_CHARACTERS else part
        for part in title.split(", ")
    )
    lines = textwrap.wrap(parts, _PANEL_TITLE_CHARACTERS, break_on_hyphens=False)
    axes.set_title("\n".join(lines).replace(_NO_BREAK, " "), fontsize=8.5)


def heat_map(axes: Axes, values: NDArray[np.float64], norm: LogNorm) -> None:
    """Draws pixels, (H, W), on a logarithmic scale; zeros have its darkest colour."""
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


def scale_bar(figure: FigureBase, maps: Iterable[Axes], label: str, **look: Any) -> None:
    """Draws the colour scale that maps share, as `Figure.colorbar`; nothing if there is no map."""
    panels = list(maps)
    drawn = [axes.images[0] for axes in panels if axes.images]
    if drawn:
        bar = figure.colorbar(drawn[0], ax=panels, **look)
        bar.set_label(label)
        bar.outline.set_visible(False)


def chance_line(axes: Axes, chance: float | None) -> None:
    """Draws a dotted line at the accuracy of guessing, in percent; nothing if it is not known."""
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
    """Writes into an empty panel why it is empty, and removes its axes."""
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set(visible=True, color="#CCCCCC")
    say_why(axes, reasons)


def say_why(axes: Axes, reasons: Iterable[str]) -> None:
    """Writes into an empty panel why it is empty; it keeps its axes, which it may share."""
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
    """The bytes of a figure's `png`, `pdf` and `svg` file: the same bytes for the same figure."""
    with look():
        # The layout takes longer than the drawing and is the same for all formats.
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
