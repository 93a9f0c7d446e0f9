"""The largest eigenvalues of a symmetric operator, each with its residual."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from rfray.numerics.errors import NumericsError
from rfray.numerics.krylov import KrylovDecomposition, RitzPairs
from rfray.numerics.operator import SymmetricOperator, residual_norms

Progress = Callable[[int, int], None]
"""Called with the number of products and of wanted eigenvalues converged so far."""

_MARGIN = 0.8
"""The iteration uses this part of the tolerance, so that rounding does not change the result."""

_PROBE_STEPS = 20
_PROBE_RESOLUTION = 0.01
_PROBE_DOUBT = 0.01


@dataclass(frozen=True)
class Eigenpairs:
    """The algebraically largest eigenvalues of a symmetric operator H, largest first.

    Attributes:
        values: (count,) float64 on the CPU, λ.
        vectors: (dimension, count) orthonormal columns v, with the device and dtype of H.
        residuals: (count,) float64 on the CPU, ‖Hv - λv‖₂, from one more product with each v. An
            eigenvalue of H is at most this far from λ.
        converged: (count,) bool, residual ≤ tolerance · max(|λ|, eps^(2/3)·‖H‖).
        probed: Whether the search for further copies of eigenvalues is complete; if not, an
            eigenvalue larger than the last one may be missing although all have converged.
        products: Number of vectors multiplied with H, including those of the residuals.
        restarts: How often the basis was reduced to Ritz vectors.
    """

    values: Tensor
    vectors: Tensor
    residuals: Tensor
    converged: Tensor
    probed: bool
    products: int
    restarts: int


@dataclass(frozen=True)
class BasisPlace:
    """The number of vectors of a basis; whether it is on the computing device or in main memory."""

    basis_size: int
    on_device: bool


@dataclass(frozen=True)
class _Target:
    """The wanted eigenvalues, and the limits of the cost."""

    count: int
    tolerance: float
    max_products: int
    block_size: int
    progress: Progress | None


@dataclass(frozen=True)
class _Probe:
    """A search for further copies, in the space orthogonal to the eigenvectors of `locked`."""

    locked: Tensor
    first_product: int


def largest_eigenvalues(
    operator: SymmetricOperator,
    count: int,
    *,
    generator: torch.Generator,
    tolerance: float = 1e-3,
    max_products: int | None = None,
    block_size: int = 1,
    basis_size: int | None = None,
    progress: Progress | None = None,
) -> Eigenpairs:
    """The `count` algebraically largest eigenvalues of a symmetric operator, with multiplicity.

    Thick-restart block Lanczos (Wu & Simon 2000, SIAM J. Matrix Anal. Appl. 22, 602) with full
    reorthogonalisation. When all wanted pairs have converged, a probe follows: Lanczos from random
    vectors orthogonal to them. It finds the copies of a multiple eigenvalue that one Krylov space
    cannot contain. New pairs are added to the wanted ones, and the iteration continues until a
    probe finds nothing. A probe ends after 20 steps if all its values are below the wanted
    eigenvalues by more than their residual. Otherwise it ends when the chance is 1 % to miss an
    eigenvalue that exceeds the last wanted one by 1 % of the spread of the others (Kuczyński &
    Woźniakowski 1992, SIAM J. Matrix Anal. Appl. 13, 1094, theorem 4.2): 57 steps in 2e5
    dimensions, 68 in 2e7.

    Args:
        operator: Deterministic and symmetric: see `check_operator`.
        count: Number of eigenvalues, at most the dimension.
        generator: Draws the starting vectors.
        tolerance: Largest residual of a converged pair, relative to its eigenvalue.
        max_products: Largest number of products, including those of the residuals; at least
            2·count + block_size, by default 300 + 30·count.
        block_size: Vectors multiplied at once. 1 needs the fewest products; more help if an
            operator shares work between the columns of a block, or for multiple eigenvalues.
        basis_size: Vectors in memory, by default 2·count + 20·block_size. More need fewer products.
            Memory is (basis_size + block_size) · dimension numbers of the operator's dtype.
        progress: Called at every check of the convergence.

    Returns:
        The eigenpairs; if `max_products` ended the search, they say what is not certain.

    Raises:
        NumericsError: The arguments are impossible, or a product is not finite.
    """
    basis_size = min(
        operator.dimension, basis_size or usual_basis_size(operator.dimension, count, block_size)
    )
    max_products = 300 + 30 * count if max_products is None else max_products
    target = _Target(count, tolerance, max_products, block_size, progress)
    _refuse(target, operator.dimension, basis_size)
    krylov = KrylovDecomposition(operator, basis_size, block_size, generator)
    restarts, probed = _iterate(krylov, target)
    return _certified(krylov, target, restarts, probed)


def usual_basis_size(dimension: int, count: int, block_size: int) -> int:
    """The default size of the basis; a larger one saves few products."""
    return min(dimension, 2 * count + 20 * block_size)


def least_basis_size(dimension: int, count: int, block_size: int) -> int:
    """The smallest size of the basis with room for new vectors after a restart."""
    return min(dimension, count + 2 * block_size + 1)


def place_basis(
    dimension: int,
    dtype: torch.dtype,
    count: int,
    *,
    budget: float,
    device_budget: float,
    block_size: int = 1,
) -> BasisPlace:
    """The usual basis, or a smaller one if the budget is too small for it.

    It is on the device if there is room; otherwise in main memory, where each step costs a transfer
    of one block, and the products with the basis run on the CPU. A basis smaller than usual
    restarts more often and needs more products. `budget` is the bytes that the basis may take, and
    `device_budget` those that it may take on the device that computes.

    Raises:
        NumericsError: Not even the smallest basis fits into the budget; it says how much is needed.
    """
    vector = dimension * dtype.itemsize
    least = least_basis_size(dimension, count, block_size)
    affordable = int(budget // vector) - block_size
    if affordable < least:
        raise NumericsError(
            f"{count} eigenvalues in {dimension:,} dimensions need a basis of at least "
            f"{(least + block_size) * vector / 1e9:.1f} GB; it may take {budget / 1e9:.1f} GB"
        )
    size = min(usual_basis_size(dimension, count, block_size), affordable)
    return BasisPlace(size, (size + block_size) * vector <= device_budget)


def _iterate(krylov: KrylovDecomposition, target: _Target) -> tuple[int, bool]:
    """Iterates until the wanted Ritz pairs have converged or the products are used up.

    Returns the number of restarts, and whether nothing is left to find.
    """
    probe: _Probe | None = None
    restarts = 0
    krylov.reseed(target.block_size)
    while True:
        _grow(krylov, target)
        pairs = krylov.ritz_pairs()
        converged = pairs.residuals <= _MARGIN * _allowance(pairs.values, target, krylov.dtype)
        if target.progress is not None:
            target.progress(krylov.products, int(converged[: target.count].sum()))
        if krylov.complete or not _affordable(krylov, target):
            return restarts, krylov.complete
        if krylov.size >= target.count and bool(converged[: target.count].all()):
            if probe is None or _found_more(probe, pairs, target, krylov.dtype):
                probe = _Probe(pairs.values[: target.count], krylov.products)
                krylov.shrink(pairs, target.count)
                krylov.reseed(target.block_size)
                restarts += 1
                continue
            if _thorough(probe, pairs, krylov, target):
                return restarts, True
        if krylov.full:
            krylov.shrink(pairs, target.count + (krylov.capacity - target.count) // 3)
            restarts += 1
        if krylov.width == 0:
            krylov.reseed(target.block_size)


def _grow(krylov: KrylovDecomposition, target: _Target) -> None:
    """Takes products until the Ritz pairs should be checked again."""
    stop = krylov.products + 1 + target.count // 8
    while True:
        krylov.grow()
        due = krylov.products >= stop and krylov.size >= target.count
        if due or krylov.full or krylov.width == 0 or not _affordable(krylov, target):
            return


def _affordable(krylov: KrylovDecomposition, target: _Target) -> bool:
    return krylov.products + target.block_size + target.count <= target.max_products


def _allowance(values: Tensor, target: _Target, dtype: torch.dtype) -> Tensor:
    """The residual that the iteration aims at: the tolerance, but at least the rounding error."""
    rounding = torch.finfo(dtype).eps * float(values.abs().max())
    return permitted_residuals(values, target.tolerance, dtype).clamp(min=rounding)


def permitted_residuals(values: Tensor, tolerance: float, dtype: torch.dtype) -> Tensor:
    """The residual at which a pair counts as converged: tolerance · max(|λ|, eps^(2/3)·‖H‖).

    ARPACK's rule (Lehoucq, Sorensen & Yang 1998, section 4.6), with the largest known |λ| of the
    values for ‖H‖; eps is the precision of the products' dtype.
    """
    sizes = values.abs()
    return tolerance * sizes.clamp(min=torch.finfo(dtype).eps ** (2 / 3) * float(sizes.max()))


def _found_more(probe: _Probe, pairs: RitzPairs, target: _Target, dtype: torch.dtype) -> bool:
    rise = pairs.values[: target.count] - probe.locked
    return bool((rise > _allowance(pairs.values, target, dtype)[: target.count]).any())


def _thorough(
    probe: _Probe, pairs: RitzPairs, krylov: KrylovDecomposition, target: _Target
) -> bool:
    """Whether the probe has had enough steps to conclude that there is nothing to find."""
    steps = (krylov.products - probe.first_product) / target.block_size
    if steps < _PROBE_STEPS:
        return False
    ceiling = (pairs.values + pairs.residuals)[target.count :].max()
    doubt = math.log(1.648 * math.sqrt(krylov.operator.dimension) / _PROBE_DOUBT)
    enough = (1 + doubt / math.sqrt(_PROBE_RESOLUTION)) / 2
    return steps >= enough or bool(ceiling < pairs.values[target.count - 1])


def _certified(
    krylov: KrylovDecomposition, target: _Target, restarts: int, probed: bool
) -> Eigenpairs:
    """The wanted pairs, with residuals from products and not from the recurrence."""
    pairs = krylov.ritz_pairs()
    krylov.shrink(pairs, target.count)
    values, vectors = pairs.values[: target.count], krylov.basis
    residuals = residual_norms(krylov.operator, values, vectors, target.block_size)
    permitted = permitted_residuals(pairs.values, target.tolerance, krylov.dtype)
    converged = residuals <= permitted[: target.count]
    return Eigenpairs(values, vectors, residuals, converged, probed, krylov.products, restarts)


def _refuse(target: _Target, dimension: int, basis_size: int) -> None:
    count, block_size = target.count, target.block_size
    if not 1 <= count <= dimension:
        raise NumericsError(f"{count} eigenvalues of an operator of dimension {dimension}")
    if not 1 <= block_size <= dimension:
        raise NumericsError(f"a block of {block_size} vectors in dimension {dimension}")
    if not target.tolerance > 0:
        raise NumericsError(f"the tolerance must be positive, not {target.tolerance}")
    smallest = least_basis_size(dimension, count, block_size)
    if basis_size < smallest:
        raise NumericsError(f"a basis of {basis_size} vectors; this needs at least {smallest}")
    if target.max_products < 2 * count + block_size:
        raise NumericsError(
            f"max_products is {target.max_products}; it must be at least {2 * count + block_size}"
        )
