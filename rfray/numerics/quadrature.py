"""The spectral density of a symmetric operator, by stochastic Lanczos quadrature."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from rfray.numerics.errors import NumericsError
from rfray.numerics.operator import ProductCounter, SymmetricOperator, counted
from rfray.numerics.precision import full_precision


@dataclass(frozen=True)
class SpectralDensity:
    """A density of the eigenvalues of H, as one Gauss quadrature for each random probe.

    Σ weights·f(nodes) over a row estimates trace(f(H)) / dimension; the rows are independent.

    Attributes:
        nodes: (probes, steps) float64 on the CPU, ascending in each row.
        weights: (probes, steps) float64 on the CPU, non-negative; every row sums to 1.
        trace: dimension · the mean of vᵀHv over the probes v of unit length.
        trace_standard_error: The standard error of that mean (n − 1); NaN for one probe.
        dimension: Of H.
        products: Number of vectors multiplied with H.
    """

    nodes: Tensor
    weights: Tensor
    trace: float
    trace_standard_error: float
    dimension: int
    products: int


def spectral_density(
    operator: SymmetricOperator,
    probes: int,
    steps: int,
    generator: torch.Generator,
    progress: Callable[[int], None] | None = None,
) -> SpectralDensity:
    """Stochastic Lanczos quadrature with Rademacher probes, all in one block.

    Ubaru, Chen & Saad 2017 (SIAM J. Matrix Anal. Appl. 38, 1075), algorithm 1; for networks
    Ghorbani, Krishnan & Xiao 2019. The nodes are the eigenvalues of each probe's tridiagonal
    matrix, the weights the squared first components of its eigenvectors.

    Each probe has its own Lanczos recurrence, without reorthogonalisation, so that memory is three
    blocks for any number of steps. Because of rounding there are then copies of converged
    eigenvalues. They share the weight of the original, and the quadrature stays as accurate (Chen,
    Trogdon & Ubaru 2021, "Analysis of stochastic Lanczos quadrature").

    Args:
        operator: Deterministic and symmetric: see `check_operator`.
        probes: Number of random vectors, the columns of the block.
        steps: Lanczos steps of each, at most the dimension; there are probes · steps products.
        generator: Draws the probes.
        progress: Called after each step with the number of steps so far.

    Returns:
        The density. If the Krylov space of a probe is exhausted early, the steps that are left have
        nodes 0 of weight 0.

    Raises:
        NumericsError: The arguments are impossible, or a product is not finite.
    """
    if probes < 1 or not 1 <= steps <= operator.dimension:
        raise NumericsError(
            f"{probes} probes of {steps} steps on an operator of dimension {operator.dimension}"
        )
    counter = ProductCounter()
    start = _rademacher(operator, probes, generator)
    with full_precision(operator.device):
        diagonal, beside = _tridiagonals(counted(operator, counter), start, steps, progress)
    matrices = torch.diag_embed(diagonal)
    matrices += torch.diag_embed(beside, 1) + torch.diag_embed(beside, -1)
    nodes, vectors = torch.linalg.eigh(matrices)
    samples = operator.dimension * diagonal[:, 0]
    return SpectralDensity(
        nodes,
        vectors[:, 0, :] ** 2,
        float(samples.mean()),
        float(samples.std() / math.sqrt(probes)) if probes > 1 else math.nan,
        operator.dimension,
        counter.products,
    )


def smoothed(density: SpectralDensity, grid: Tensor, width: float) -> Tensor:
    """The density with a Gaussian in place of every node, averaged over the probes.

    It is evaluated at the eigenvalues `grid`, (points,), and its integral over all numbers is 1.
    The width is the standard deviation of the Gaussian, in units of the eigenvalues.

    Raises:
        NumericsError: The width is not positive.
    """
    if not width > 0:
        raise NumericsError(f"the width of a Gaussian must be positive, not {width}")
    nodes = density.nodes.flatten()
    weights = density.weights.flatten() / len(density.nodes)
    distances = (grid.double().cpu()[:, None] - nodes) / width
    return (weights * torch.exp(-(distances**2) / 2)).sum(dim=1) / (width * math.sqrt(2 * math.pi))


def _tridiagonals(
    operator: SymmetricOperator, current: Tensor, steps: int, progress: Callable[[int], None] | None
) -> tuple[Tensor, Tensor]:
    """Diagonals (probes, steps) and off-diagonals (probes, steps - 1) of the Lanczos matrices."""
    diagonal, beside = torch.zeros(2, steps, current.shape[1], dtype=torch.float64)
    previous = torch.zeros_like(current)
    norm = torch.zeros_like(diagonal[0])
    for step in range(steps):
        image = operator.apply(current) - previous * beside[step - 1].to(current)
        if progress is not None:
            progress(step + 1)
        diagonal[step] = _column_products(image, current)
        image = image - current * diagonal[step].to(image)
        length = _column_products(image, image).sqrt()
        # The rest of an exhausted probe is rounding only: it is set to zero, with weight zero.
        norm = torch.stack([norm, diagonal[step].abs(), length]).amax(dim=0)
        goes_on = length > 10 * torch.finfo(image.dtype).eps * norm
        beside[step] = torch.where(goes_on, length, 0.0)
        scale = torch.where(goes_on, 1 / length, 0.0)
        previous, current = current, image * scale.to(image)
    return diagonal.T, beside[:-1].T


def _rademacher(operator: SymmetricOperator, probes: int, generator: torch.Generator) -> Tensor:
    """Columns of unit length whose entries differ in sign only: (dimension, probes)."""
    shape = (probes, operator.dimension)
    signs = torch.randint(0, 2, shape, generator=generator, device=generator.device)
    rows = (2 * signs - 1).to(operator.dtype) / math.sqrt(operator.dimension)
    return rows.to(operator.device).T


def _column_products(first: Tensor, second: Tensor) -> Tensor:
    """Scalar products of corresponding columns, (b,) float64 on the CPU."""
    products: Tensor = torch.linalg.vecdot(first.T, second.T)
    return products.double().cpu()
