"""The picture of its results that each run has in MLflow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage
    from numpy.typing import NDArray

_DOTS_PER_INCH = 120
_COLOURS = 256
_NAMED_LAYERS = 12
_UNDEFINED = "#9A9A9A"
_IN_A_ROW = 3
_DECADES = 10
"""Decades of density shown below the peak, as in the figures of a report."""

_GRADIENT_DECADES = 3
"""Decades of a gradient shown below its largest value."""

_OUTLINE = "#E69F00"

_LETTER = 0.062
"""Width of a letter in the names of layers, inches."""


@dataclass(frozen=True)
class EffectiveField:
    """The effective receptive field of the central unit of one layer.

    Attributes:
        receptive_field: Theoretical, pixels.
        squares: Mean |gradient|² of each pixel, (height, width), not all 0.
        rows: Rows of the image in the theoretical receptive field.
        columns: Columns of the image in the theoretical receptive field.
        centre: Row and column of the centre of mass.
        radius: Around that centre, pixels.
    """

    layer: str
    receptive_field: int
    squares: NDArray[np.float64]
    rows: range
    columns: range
    centre: tuple[float, float]
    radius: float


def save_effective_fields(path: Path, title: str, fields: Sequence[EffectiveField]) -> None:
    """Draw the gradients of some layers, with the theoretical field and the radius of each."""
    rows = -(-len(fields) // _IN_A_ROW)
    height = 1.0 + 1.6 * max(rows, 1)
    figure = _figure(title, height)
    if not fields:
        figure.text(0.5, 0.5, "no layer has a gradient", ha="center", va="center")
        _save(figure, path)
        return
    inches = {"top": 1 - 0.65 / height, "bottom": 0.55 / height, "hspace": 0.35, "wspace": 0.08}
    grid = figure.subplots(
        rows, _IN_A_ROW, squeeze=False, gridspec_kw={"left": 0.03, "right": 0.97, **inches}
    )
    for axes in grid.flat:
        axes.set_axis_off()
    shown = [_draw_field(axes, field) for axes, field in zip(grid.flat, fields, strict=False)]
    place = _axes(figure, 0.4, 0.42, 4.2, 0.08)
    # A plain format: to set 10 to a power in type takes as long as the images.
    bar = figure.colorbar(shown[0], cax=place, orientation="horizontal", extend="min", format="%g")
    bar.minorticks_off()
    bar.ax.tick_params(labelsize=7)
    bar.set_label("root mean |gradient|² over its largest value", fontsize=7)
    _save(figure, path)


def _draw_field(axes: Axes, field: EffectiveField) -> AxesImage:
    import numpy as np
    from matplotlib import colormaps
    from matplotlib.colors import LogNorm
    from matplotlib.patches import Circle, Rectangle

    gradient = np.sqrt(field.squares / field.squares.max())
    palette = colormaps["viridis"]
    image = axes.imshow(
        np.ma.masked_less_equal(gradient, 0.0),
        cmap=palette.with_extremes(bad=palette(0.0), under=palette(0.0)),
        norm=LogNorm(10.0**-_GRADIENT_DECADES, 1.0),
        interpolation="nearest",
    )
    frame = Rectangle(
        (field.columns.start - 0.5, field.rows.start - 0.5),
        len(field.columns),
        len(field.rows),
        fill=False,
        ec=_OUTLINE,
        lw=1.5,
        clip_on=False,
    )
    axes.add_patch(frame)
    axes.add_patch(Circle(field.centre[::-1], field.radius, fill=False, ec="white", lw=1))
    title = f"{field.layer}\nfield {field.receptive_field}, radius {field.radius:.1f}"
    axes.set_title(title, fontsize=7)
    return image


def save_importance(path: Path, title: str, pattern: NDArray[np.float64]) -> None:
    """Draw mean |gradient| of each pixel, (height, width)."""
    figure = _figure(title, 4.2)
    axes = _axes(figure, 0.65, 0.5, 3.2, 3.2)
    image = axes.imshow(pattern, cmap="viridis")
    axes.set(xlabel="pixel", ylabel="pixel")
    beside = _axes(figure, 4.0, 0.5, 0.15, 3.2)
    figure.colorbar(image, cax=beside, label="mean |gradient|")
    _save(figure, path)


def save_alignment(
    path: Path,
    title: str,
    matrices: NDArray[np.float32],
    shuffled: NDArray[np.float32],
    layers: Sequence[str],
) -> None:
    """Draw linear CKA between layers, as the mean over pairs of seeds; below, of equal layers.

    `matrices` is (pairs, layers, layers), and `shuffled` (pairs, layers) with shuffled images.
    """
    import numpy as np

    mean = matrices.mean(axis=0)
    named_title = f"{title}\n(grey: undefined)" if np.isnan(mean).any() else title
    named, names = _named(layers), _length(layers)
    left, low = names + 0.4, names + 0.35
    figure = _figure(named_title, 2 * low + 4.5, width=max(5.0, left + 3.5))
    axes = _axes(figure, left, 2 * low + 1.25, 2.7, 2.7)
    axes.set_facecolor(_UNDEFINED)
    image = axes.imshow(mean, cmap="viridis", vmin=0, vmax=1, origin="lower", aspect="auto")
    axes.set_xticks(**named, rotation=90, fontsize=7)
    axes.set_yticks(**named, fontsize=7)
    axes.set(xlabel="layer, second seed", ylabel="layer, first seed")
    beside = _axes(figure, left + 2.8, 2 * low + 1.25, 0.12, 2.7)
    label = f"linear CKA, mean over pairs of seeds ({len(matrices)})"
    figure.colorbar(image, cax=beside).set_label(label, fontsize=8)
    below = _axes(figure, left, low, 2.7, 1.15)
    below.plot(mean.diagonal(), lw=1.2, marker="o", ms=2.5, label="same images")
    below.plot(shuffled.mean(axis=0), lw=1, ls=":", color="#444444", label="images shuffled")
    below.set_xticks(**named, rotation=90, fontsize=7)
    below.set(ylabel="CKA, equal layers", ylim=(min(-0.02, float(np.nanmin(shuffled))), 1.02))
    below.legend(fontsize=8, frameon=False)
    _save(figure, path)


def save_by_layer(
    path: Path,
    title: str,
    quantity: str,
    layers: Sequence[str],
    values: Sequence[float],
    places: Mapping[str, int],
) -> None:
    """Draw a number for each layer, first to last.

    `places` are indices of layers to mark, by their meaning; one after the last is not marked.
    """
    low = _length(layers) + 0.35
    figure = _figure(title, low + 3.2)
    axes = _axes(figure, 0.7, low, 4.15, 2.7)
    axes.plot(range(len(values)), values, marker="o", ms=4, lw=1)
    for number, (meaning, place) in enumerate(places.items(), start=1):
        if place < len(layers):
            axes.axvline(place, color=f"C{number}", ls=(0, (4, 2 + number)), lw=1, label=meaning)
    axes.set_xticks(**_named(layers), rotation=90, fontsize=7)
    axes.set(xlabel="layer", ylabel=quantity, ylim=(0, None))
    if axes.get_legend_handles_labels()[0]:
        axes.legend(fontsize=7)
    _save(figure, path)


def save_spectrum(
    path: Path,
    title: str,
    eigenvalues: Sequence[float],
    converged: Sequence[bool],
    grid: Sequence[float],
    density: Sequence[float],
) -> None:
    """Draw the largest eigenvalues by rank, hollow if not converged, and the density at `grid`."""
    from matplotlib.ticker import MaxNLocator

    figure = _figure(title, 5.6)
    above, below = _axes(figure, 0.8, 3.05, 4.05, 2.0), _axes(figure, 0.8, 0.5, 4.05, 2.0)
    fills = ["C0" if well else "white" for well in converged]
    above.scatter(range(len(eigenvalues)), eigenvalues, s=12, facecolors=fills, edgecolors="C0")
    above.set(xlabel="rank, largest first", ylabel="eigenvalue λ")
    above.xaxis.set_major_locator(MaxNLocator(integer=True))
    below.plot(grid, density, lw=1)
    peak = max(density)
    below.set(xlabel="eigenvalue λ", ylabel="density P(λ)", yscale="log")
    below.set_ylim(peak * 10.0**-_DECADES, peak * 4)
    below.yaxis.set_major_formatter("{x:.0e}")
    below.minorticks_off()
    _save(figure, path)


def save_paths(
    path: Path, title: str, alphas: NDArray[np.float64], curves: Mapping[str, NDArray[np.float64]]
) -> None:
    """Draw loss and accuracy on the lines between networks, and straight lines between the ends.

    `curves` has the loss and accuracy of both splits (`train_loss`), each (pairs, points).
    """
    count = len(curves["test_loss"])
    pairs = f"{count} pair{'s' if count != 1 else ''}"
    figure = _figure(f"{title}\n(dotted: the line between the ends)", 5.6)
    places = _axes(figure, 0.7, 2.8, 4.15, 2.1), _axes(figure, 0.7, 0.5, 4.15, 2.1)
    places[0].tick_params(labelbottom=False)
    for axes, quantity in zip(places, ("loss", "accuracy"), strict=True):
        for colour, split in (("C1", "train"), ("C0", "test")):
            values = curves[f"{split}_{quantity}"]
            mean = values.mean(axis=0)
            axes.plot(alphas, values.T, color=colour, lw=0.6, alpha=0.4)
            axes.plot(alphas, mean, color=colour, lw=1.8, label=f"{split}, mean of {pairs}")
            axes.plot(alphas[[0, -1]], mean[[0, -1]], color=colour, lw=1, ls=":")
    places[0].set(ylabel="loss")
    places[0].legend(fontsize=8)
    places[1].set(ylabel="accuracy (%)", xlabel="position between the first seed and the second")
    _save(figure, path)


def _named(layers: Sequence[str]) -> dict[str, Any]:
    """Ticks at some layers with their names, as `Axes.set_xticks` takes them."""
    ticks = range(0, len(layers), -(-len(layers) // _NAMED_LAYERS))
    return {"ticks": ticks, "labels": [layers[index] for index in ticks]}


def _length(layers: Sequence[str]) -> float:
    """About how long the longest name of a layer is in print, inches."""
    return _LETTER * max(map(len, layers), default=0)


def _save(figure: Figure, path: Path) -> None:
    """Write a PNG with a palette: a third of the size; colours differ by at most 3 of 255."""
    import numpy as np
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from PIL import Image

    # Not `savefig`, whose size and edges a user's matplotlibrc may change.
    canvas = FigureCanvasAgg(figure)
    canvas.draw()  # type: ignore[no-untyped-call]
    drawn = np.asarray(canvas.buffer_rgba())  # type: ignore[no-untyped-call]
    colours = Image.fromarray(drawn).convert("RGB")
    # Maximum coverage: the other methods lose the rare ends of a colour scale.
    palette = colours.quantize(_COLOURS, method=Image.Quantize.MAXCOVERAGE, kmeans=1)
    palette.save(path, format="png")


def _figure(title: str, height: float, width: float = 5.0) -> Figure:
    """An empty figure, inches, with 0.5 of them for a title at the top.

    It has no layout engine: to compute a layout takes longer than to draw the picture.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=_DOTS_PER_INCH)
    figure.suptitle(title, fontsize=10, y=1 - 0.07 / height)
    return figure


def _axes(figure: Figure, left: float, bottom: float, width: float, height: float) -> Axes:
    """New axes at a place in inches, without their labels."""
    whole_width, whole_height = figure.get_size_inches()
    return figure.add_axes(
        (left / whole_width, bottom / whole_height, width / whole_width, height / whole_height)
    )
