"""Orthonormal rows: the inner loop of every Krylov method.

Vectors are rows here, (b, dimension), so that a growing basis is contiguous in memory.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from rfray.numerics.products import add_product

_RETAINED = 0.7
"""If every vector keeps at least this share of its length in a pass, it is orthogonal up to
rounding (Daniel, Gragg, Kaufman & Stewart 1976)."""

_PASSES = 5


@dataclass(frozen=True)
class Orthogonalised:
    """A block W written as W = Cᵀ·basis + Rᵀ·rows.

    Attributes:
        rows: (r, dimension) orthonormal and orthogonal to the basis, r ≤ b.
        coefficients: (basis, b) float64 on the CPU, C.
        remainder: (r, b) float64 on the CPU, R.
    """

    rows: Tensor
    coefficients: Tensor
    remainder: Tensor


def orthogonalise(block: Tensor, basis: Tensor, recent: int, negligible: float) -> Orthogonalised:
    """Splits each row of a block into its part in a basis and an orthonormal rest.

    Block Gram-Schmidt: first against the `recent` last basis vectors, which in a Lanczos iteration
    have nearly all that must be removed, then against the whole basis until a pass removes only
    rounding. Usually that is one pass. The result is orthogonal up to rounding for any spectrum.
    The block (b, dimension) is overwritten; the basis (j, dimension) has orthonormal rows, j at
    least `recent`. Directions of the rest of at most the length `negligible` are left out as zero,
    so there may be fewer rows than in the block.
    """
    coefficients = torch.zeros(len(basis), len(block), dtype=torch.float64)
    coefficients[len(basis) - recent :] = _project_out(block, basis[len(basis) - recent :])
    rows, remainder = orthonormalise(block, negligible)
    for _ in range(_PASSES):
        if len(rows) == 0:
            break
        coefficients += _project_out(rows, basis) @ remainder
        rows, change = orthonormalise(rows, _smallest(rows.dtype))
        remainder = change @ remainder
        if len(change) == 0 or float(torch.linalg.svdvals(change)[-1]) > _RETAINED:
            break
    return Orthogonalised(rows, coefficients, remainder)


def orthonormalise(block: Tensor, negligible: float) -> tuple[Tensor, Tensor]:
    """Orthonormal rows that span those of a block, without directions of negligible length.

    From the eigenvectors of the Gram matrix in float64, which needs matrix products only. Takes
    (b, dimension); returns rows (r, dimension), and the float64 CPU matrix (r, b) R with
    block ≈ Rᵀ·rows.
    """
    double = block.double()
    squares, directions = torch.linalg.eigh((double @ double.T).cpu())
    lengths = squares.clamp(min=0).sqrt()
    wanted = lengths > negligible
    lengths, directions = lengths[wanted], directions[:, wanted]
    rows = (directions / lengths).T.to(block) @ block
    return rows, lengths[:, None] * directions.T


def _project_out(block: Tensor, basis: Tensor) -> Tensor:
    """Subtracts from `block`, in place, its part in `basis`; the coefficients (basis, b)."""
    coefficients = basis @ block.T
    add_product(block, coefficients.T, basis, alpha=-1)
    return coefficients.double().cpu()


def _smallest(dtype: torch.dtype) -> float:
    return 10 * torch.finfo(dtype).eps
