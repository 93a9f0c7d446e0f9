"""What a run shows of itself in MLflow: one picture of what it measured."""

from __future__ import annotations

from collections.abc import Sequence
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
    path: Path,
    title: str,
    matrices: NDArray[np.float32],
    shuffled: NDArray[np.float32],
    layers: Sequence[str],
) -> None:
    """Draw linear CKA between layers, the mean over pairs of seeds, and of equal layers below.

    Args:
        path: Of the picture.
        title: Its heading.
        matrices: (pairs, layers, layers).
        shuffled: (pairs, layers), of equal layers with shuffled images.
        layers: Their names.
    """
    import numpy as np

    mean = matrices.mean(axis=0)
    named_title = f"{title}\n(grey: undefined)" if np.isnan(mean).any() else title
    figure = _figure(named_title, height=6.8)
    axes, below = figure.subplots(2, 1, height_ratios=(2, 1))
    axes.set_facecolor(_UNDEFINED)
    image = axes.imshow(mean, cmap="viridis", vmin=0, vmax=1, origin="lower")
    named = range(0, len(layers), -(-len(layers) // _NAMED_LAYERS))
    axes.set_xticks(named, [layers[index] for index in named], rotation=90, fontsize=7)
    axes.set_yticks(named, [layers[index] for index in named], fontsize=7)
    axes.set(xlabel="layer, second seed", ylabel="layer, first seed")
    figure.colorbar(image, label=f"linear CKA, mean over pairs of seeds ({len(matrices)})")
    below.plot(mean.diagonal(), lw=1.2, marker="o", ms=2.5, label="same images")
    below.plot(shuffled.mean(axis=0), lw=1, ls=":", color="#444444", label="images shuffled")
    below.set_xticks(named, [layers[index] for index in named], rotation=90, fontsize=7)
    below.set(ylabel="CKA, equal layers", ylim=(min(-0.02, float(np.nanmin(shuffled))), 1.02))
    below.legend(fontsize=8, frameon=False)
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


def _figure(title: str, height: float = 4.2) -> Figure:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5, height), layout="constrained", dpi=_DOTS_PER_INCH)
    figure.suptitle(title, fontsize=10)
    return figure
