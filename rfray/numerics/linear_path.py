"""The straight line between two networks' weights, and the barrier on it.

Frankle, Dziugaite, Roy & Carbin, *Linear Mode Connectivity and the Lottery Ticket Hypothesis*, ICML
2020. As in Entezari et al., *The Role of Permutation Invariance in Linear Mode Connectivity of
Neural Networks*, ICLR 2022, values are compared with the straight line between the ends and not
with their mean, so that a difference between the ends is not a barrier.
"""

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Floats = NDArray[np.float64]


def positions(points: int) -> Floats:
    """Equally spaced positions on the line from 0 to 1, including both, (points,)."""
    return np.linspace(0.0, 1.0, points)


def interpolated(
    first: Mapping[str, Tensor], second: Mapping[str, Tensor], alpha: float
) -> dict[str, Tensor]:
    """(1 - alpha) first + alpha second, tensor by tensor: exact at both ends and for equal tensors.

    Tensors of integers, such as a count of batches, are those of the first.
    """
    return {
        name: torch.lerp(tensor, second[name], alpha)
        if tensor.is_floating_point()
        else tensor.clone()
        for name, tensor in first.items()
    }


def excess(alphas: Floats, values: Floats) -> Floats:
    """How far values are above the straight line between the first and the last, (..., points).

    `alphas` (points,) ascend from 0 to 1, and `values` (..., points) are given there.
    """
    line = values[..., :1] * (1 - alphas) + values[..., -1:] * alphas
    return np.asarray(values - line, dtype=np.float64)


def barrier(alphas: Floats, values: Floats) -> Floats:
    """The largest excess over the straight line between the ends, (...): 0 or more.

    NaN for a path with a value that is not finite. The values are a loss or an error, as `excess`
    takes them.
    """
    finite = np.isfinite(values).all(axis=-1)
    above = excess(alphas, np.where(np.isfinite(values), values, 0.0)).max(axis=-1)
    # At the ends it is 0, up to rounding.
    return np.where(finite, np.maximum(above, 0.0), np.nan)
