"""Plain Lanczos with a fixed number of steps, for a comparison with converged eigenvalues."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from rfray.numerics.errors import NumericsError
from rfray.numerics.krylov import KrylovDecomposition
from rfray.numerics.operator import SymmetricOperator


@dataclass(frozen=True)
class RitzValues:
    """The Ritz values of a fixed number of Lanczos steps, converged or not.

    Attributes:
        values: (steps,) float64 on the CPU, largest first.
        residuals: (steps,) float64 on the CPU, ‖Hv - λv‖₂ by the Lanczos recurrence.
    """

    values: Tensor
    residuals: Tensor


def ritz_values(operator: SymmetricOperator, steps: int, generator: torch.Generator) -> RitzValues:
    """The Ritz values of plain Lanczos, without restart, with full reorthogonalisation.

    Only the outermost ones are close to eigenvalues, as the residuals show; all of them together
    are not a spectrum.

    Args:
        operator: Deterministic and symmetric: see `check_operator`.
        steps: Number of products, and of vectors in memory; at most the dimension.
        generator: Draws the starting vector.

    Returns:
        The Ritz values; fewer than `steps` if the Krylov space is exhausted earlier.

    Raises:
        NumericsError: The steps are not between 1 and the dimension, or a product is not finite.
    """
    if not 1 <= steps <= operator.dimension:
        raise NumericsError(f"{steps} steps on an operator of dimension {operator.dimension}")
    krylov = KrylovDecomposition(operator, steps, 1, generator)
    krylov.reseed(1)
    while krylov.size < steps and krylov.width > 0:
        krylov.grow()
    pairs = krylov.ritz_pairs()
    return RitzValues(pairs.values, pairs.residuals)
