"""What a run shows of itself in MLflow: one picture of what it measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

_DOTS_PER_INCH = 120
_NAMED_LAYERS = 12
_UNDEFINED = "#9A9A9A"
_DECADES = 10
"""Decades of density shown below the peak, as in the figures of a report."""


def save_importance(path: Path, title: str, pattern: NDArray[np.float64]) -> None:
    """Draw mean |gradient| of each pixel, (height, width)."""
    figure = _figure(title)
    axes = figure.subplots()
    image = axes.imshow(pattern, cmap="viridis")
    axes.set(xlabel="pixel", ylabel="pixel")
    figure.colorbar(image, label="mean |gradient|")
    figure.savefig(path)


def save_alignment(
    path: Path, title: str, matrices: NDArray[np.float32], layers: Sequence[str]
) -> None:
    """Draw linear CKA between layers, (pairs, layers, layers), the mean over pairs of seeds."""
    import numpy as np

    mean = matrices.mean(axis=0)
    figure = _figure(f"{title}\n(grey: undefined)" if np.isnan(mean).any() else title)
    axes = figure.subplots()
    axes.set_facecolor(_UNDEFINED)
    image = axes.imshow(mean, cmap="viridis", vmin=0, vmax=1, origin="lower")
    named = range(0, len(layers), -(-len(layers) // _NAMED_LAYERS))
    axes.set_xticks(named, [layers[index] for index in named], rotation=90, fontsize=7)
    axes.set_yticks(named, [layers[index] for index in named], fontsize=7)
    axes.set(xlabel="layer, second seed", ylabel="layer, first seed")
    figure.colorbar(image, label=f"linear CKA, mean over pairs of seeds ({len(matrices)})")
    figure.savefig(path)


def save_spectrum(
    path: Path,
    title: str,
    eigenvalues: Sequence[float],
    converged: Sequence[bool],
    grid: Sequence[float],
    density: Sequence[float],
) -> None:
    """Draw the largest eigenvalues by rank, hollow where not converged, and the spectral density.

    Args:
        path: Of the picture.
        title: Its heading.
        eigenvalues: Largest first.
        converged: Whether each has converged.
        grid: Where the density is known.
        density: P(λ) there.
    """
    figure = _figure(title, height=5.6)
    above, below = figure.subplots(2, 1)
    fills = ["C0" if well else "white" for well in converged]
    above.scatter(range(len(eigenvalues)), eigenvalues, s=12, facecolors=fills, edgecolors="C0")
    above.set(xlabel="rank, largest first", ylabel="eigenvalue λ")
    above.xaxis.get_major_locator().set_params(integer=True)
    below.plot(grid, density, lw=1)
    peak = max(density)
    below.set(xlabel="eigenvalue λ", ylabel="density P(λ)", yscale="log")
    below.set_ylim(peak * 10.0**-_DECADES, peak * 4)
    figure.savefig(path)


def save_paths(
    path: Path,
    title: str,
    alphas: NDArray[np.float64],
    curves: Mapping[str, NDArray[np.float64]],
) -> None:
    """Draw loss and accuracy on the lines between pairs of networks, and what the ends expect.

    Args:
        path: Of the picture.
        title: Its heading.
        alphas: Positions, (points,).
        curves: `train_loss`, `test_loss`, `train_accuracy` and `test_accuracy`, (pairs, points).
    """
    count = len(curves["test_loss"])
    pairs = f"{count} pair{'s' if count != 1 else ''}"
    figure = _figure(f"{title}\n(dotted: the line between the ends)", height=5.6)
    places = figure.subplots(2, 1, sharex=True)
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
    figure.savefig(path)


def _figure(title: str, height: float = 4.2) -> Figure:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5, height), layout="constrained", dpi=_DOTS_PER_INCH)
    figure.suptitle(title, fontsize=10)
    return figure
