"""The straight line between two networks' weights, and the barrier that stands on it.

Frankle, Dziugaite, Roy & Carbin, *Linear Mode Connectivity and the Lottery Ticket Hypothesis*, ICML
2020; the line between the ends is taken instead of their mean, so that ends of unequal loss make no
barrier (Entezari et al., *The Role of Permutation Invariance in Linear Mode Connectivity of Neural
Networks*, ICLR 2022).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Floats = NDArray[np.float64]


def positions(points: int) -> Floats:
    """So many positions on the line, equally far apart, (points,): from 0 to 1, both of them in."""
    return np.linspace(0.0, 1.0, points)


def interpolated(
    first: Mapping[str, Tensor], second: Mapping[str, Tensor], alpha: float
) -> dict[str, Tensor]:
    """(1 - alpha) first + alpha second, tensor by tensor: exact at both ends, and between equals.

    What holds no numbers with a fraction, such as a count of batches, is the first's.

    Args:
        first: By name.
        second: By the same names, in the same shapes.
        alpha: Position on the line, 0 to 1.
    """
    return {
        name: torch.lerp(tensor, second[name], alpha)
        if tensor.is_floating_point()
        else tensor.clone()
        for name, tensor in first.items()
    }


def excess(alphas: Floats, values: Floats) -> Floats:
    """How far values lie above the straight line between the first and the last, (..., points).

    Args:
        alphas: Positions, ascending from 0 to 1, (points,).
        values: What was measured there, (..., points).
    """
    line = values[..., :1] * (1 - alphas) + values[..., -1:] * alphas
    return np.asarray(values - line, dtype=np.float64)


def barrier(alphas: Floats, values: Floats) -> Floats:
    """The largest excess over the straight line between the ends, (...): 0 or more.

    NaN where a value is not finite: such a path has no line.

    Args:
        alphas: Positions, ascending from 0 to 1, (points,).
        values: A loss or an error there, (..., points).
    """
    finite = np.isfinite(values).all(axis=-1)
    above = excess(alphas, np.where(np.isfinite(values), values, 0.0)).max(axis=-1)
    # At the ends it is 0 but for the rounding of the line.
    return np.where(finite, np.maximum(above, 0.0), np.nan)
