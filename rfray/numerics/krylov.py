"""A Krylov decomposition of a symmetric operator, which can grow, shrink and start again."""

from dataclasses import dataclass

import torch
from torch import Tensor

from rfray.numerics.errors import NumericsError
from rfray.numerics.operator import ProductCounter, SymmetricOperator, counted, gaussian_block
from rfray.numerics.orthogonal import orthogonalise
from rfray.numerics.precision import full_precision

_CHUNK = 1 << 16


@dataclass(frozen=True)
class RitzPairs:
    """The eigenpairs of the projected operator, largest eigenvalue first.

    Attributes:
        values: (size,) float64 on the CPU.
        rotation: (size, size) float64; column i has the coordinates of vector i in the basis.
        residuals: (size,) float64, ‖Hv - λv‖₂ from the decomposition, without rounding errors.
    """

    values: Tensor
    rotation: Tensor
    residuals: Tensor


class KrylovDecomposition:
    """H V = V T + Q B, with V and Q orthonormal (Stewart 2001, "A Krylov-Schur algorithm").

    V (dimension, size) is the basis, T = VᵀHV the projected operator, Q (dimension, width) the next
    block and B (width, size) its coupling. Growing by products is block Lanczos with full
    reorthogonalisation; shrinking to Ritz vectors and growing again is the thick restart (Wu &
    Simon 2000, "Thick-restart Lanczos method"). T and B are float64 on the CPU; V and Q have the
    device and dtype of the operator. No block is wider than `widest`; `generator` draws the first.

    Attributes:
        operator: H, with its products counted.
        capacity: The largest size of the basis.
        size: Columns of V.
        width: Columns of Q; 0 if V spans an invariant subspace.
    """

    def __init__(
        self, operator: SymmetricOperator, capacity: int, widest: int, generator: torch.Generator
    ) -> None:
        self.capacity = capacity
        self._counter = ProductCounter()
        self.operator = counted(operator, self._counter)
        self.size = 0
        self.width = 0
        self._generator = generator
        self._projected = torch.zeros(capacity, capacity, dtype=torch.float64)
        self._coupling = torch.zeros(0, 0, dtype=torch.float64)
        self._norm = 0.0
        # Q is stored after V, so that it becomes part of the basis without a copy.
        self._rows = torch.empty(
            capacity + widest, operator.dimension, device=operator.device, dtype=operator.dtype
        )

    @property
    def products(self) -> int:
        """Number of vectors multiplied so far."""
        return self._counter.products

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of V and Q."""
        return self.operator.dtype

    @property
    def complete(self) -> bool:
        """Whether V is a basis of the whole space, so that nothing is left to find."""
        return self.size == self.operator.dimension

    @property
    def full(self) -> bool:
        """Whether the basis has no room for the next block."""
        return self.size + max(self.width, 1) > self.capacity

    @property
    def basis(self) -> Tensor:
        """V, (dimension, size), in the memory of the decomposition."""
        return self._rows[: self.size].T

    def reseed(self, width: int) -> None:
        """Replaces Q by random directions orthogonal to V: `width` of them, if there is room."""
        width = min(width, self.capacity - self.size)
        draws = gaussian_block(self.operator, width, self._generator).T.contiguous()
        with full_precision(self.operator.device):
            fresh = orthogonalise(draws, self._rows[: self.size], recent=0, negligible=0.0)
        self._take_next(fresh.rows, torch.zeros(len(fresh.rows), self.size, dtype=torch.float64))

    def grow(self) -> None:
        """Adds Q to the basis; costs `width` products."""
        start, stop = self.size, self.size + self.width
        images = self.operator.apply(self._rows[start:stop].T).T.contiguous()
        self._norm = max(self._norm, float(images.norm(dim=1).max()))
        with full_precision(self.operator.device):
            split = orthogonalise(
                images,
                self._rows[:stop],
                recent=min(stop, 2 * self.width),
                negligible=10 * torch.finfo(images.dtype).eps * self._norm,
            )
        self._projected[:stop, start:stop] = split.coefficients
        self._projected[start:stop, :stop] = split.coefficients.T
        square = self._projected[start:stop, start:stop]
        square.copy_((square + square.T) / 2)
        self.size = stop
        coupling = torch.zeros(len(split.rows), stop, dtype=torch.float64)
        coupling[:, start:] = split.remainder
        self._take_next(split.rows, coupling)

    def ritz_pairs(self) -> RitzPairs:
        """Eigenpairs of T with their residuals ‖B s‖."""
        values, rotation = torch.linalg.eigh(self._projected[: self.size, : self.size])
        values, rotation = values.flip(0), rotation.flip(1)
        return RitzPairs(values, rotation, (self._coupling @ rotation).norm(dim=0))

    def shrink(self, pairs: RitzPairs, keep: int) -> None:
        """Reduces the basis to the first `keep` Ritz vectors; Q stays."""
        rotation = pairs.rotation[:, :keep]
        following = self._rows[self.size : self.size + self.width].clone()
        with full_precision(self.operator.device):
            _rotate(self._rows, rotation)
        self._projected.zero_()
        self._projected[:keep, :keep] = torch.diag(pairs.values[:keep])
        self.size = keep
        self._take_next(following, self._coupling @ rotation)

    def _take_next(self, rows: Tensor, coupling: Tensor) -> None:
        self.width = len(rows)
        self._rows[self.size : self.size + self.width] = rows
        self._coupling = coupling


def _rotate(rows: Tensor, rotation: Tensor) -> None:
    """Replaces the first rows by linear combinations, (size, keep), piece by piece."""
    size, keep = rotation.shape
    combine = rotation.T.to(rows)
    for piece in torch.split(rows, _CHUNK, dim=1):
        piece[:keep] = combine @ piece[:size]


def ritz_values(operator: SymmetricOperator, steps: int, generator: torch.Generator) -> RitzPairs:
    """The Ritz pairs of plain Lanczos, without restart, with full reorthogonalisation.

    For a comparison with converged eigenvalues: only the outermost values are close to eigenvalues,
    as the residuals show; all of them together are not a spectrum. `operator` is deterministic and
    symmetric (`check_operator`). There are `steps` products and vectors in memory, and as many
    pairs; fewer if the Krylov space is exhausted earlier.

    Raises:
        NumericsError: The steps are not between 1 and the dimension, or a product is not finite.
    """
    if not 1 <= steps <= operator.dimension:
        raise NumericsError(f"{steps} steps on an operator of dimension {operator.dimension}")
    krylov = KrylovDecomposition(operator, steps, 1, generator)
    krylov.reseed(1)
    while krylov.size < steps and krylov.width > 0:
        krylov.grow()
    return krylov.ritz_pairs()
