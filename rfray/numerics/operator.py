"""A symmetric linear operator: the matrix of eigenvalue and quadrature algorithms."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from rfray.numerics.errors import NumericsError


@dataclass(frozen=True)
class SymmetricOperator:
    """A real symmetric matrix H of which only the products with vectors are known.

    Attributes:
        dimension: Number of rows and of columns.
        device: The device of blocks and products.
        dtype: Of blocks and products, float32 or float64.
        apply: H times each column of a block: (dimension, b) to (dimension, b).
    """

    dimension: int
    device: torch.device
    dtype: torch.dtype
    apply: Callable[[Tensor], Tensor]


@dataclass
class ProductCounter:
    """The number of vectors that a counted operator has multiplied so far."""

    products: int = 0


def matrix_operator(matrix: Tensor) -> SymmetricOperator:
    """An explicit symmetric matrix, (dimension, dimension), as an operator.

    Raises:
        NumericsError: It is not square.
    """
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
        raise NumericsError(f"a symmetric matrix is square, not {tuple(matrix.shape)}")
    return SymmetricOperator(
        matrix.shape[0], matrix.device, matrix.dtype, lambda block: matrix @ block
    )


def counted(operator: SymmetricOperator, counter: ProductCounter) -> SymmetricOperator:
    """The same operator, which counts its products in `counter`.

    Its `apply` raises NumericsError if a product is not finite.
    """

    def apply(block: Tensor) -> Tensor:
        product = operator.apply(block)
        counter.products += block.shape[1]
        if not bool(torch.isfinite(product).all()):
            raise NumericsError(f"product {counter.products} with the operator is not finite")
        return product

    return replace(operator, apply=apply)


def relocated(operator: SymmetricOperator, device: torch.device) -> SymmetricOperator:
    """The same operator with its blocks and products on `device`; it computes where it did.

    The basis of an eigenvalue iteration is on the device of the blocks: with this the basis is in
    main memory while the products are computed on the GPU.
    """
    return replace(
        operator,
        device=device,
        apply=lambda block: operator.apply(block.to(operator.device)).to(device),
    )


def check_operator(
    operator: SymmetricOperator, generator: torch.Generator, *, tolerance: float = 0.0
) -> None:
    """Refuses an operator that is not deterministic or not symmetric; costs three products.

    For Gaussian u and v of the generator, two products of the same vector must be equal: bit for
    bit on a CPU, and up to rounding elsewhere. And u·Hv must equal v·Hu up to rounding, or up to a
    tenth of the tolerance if that is more: if batch norms divide by small deviations, products in
    float32 have only a few correct digits. The tolerance is the largest permitted residual of the
    eigenvalues to be computed, relative to them.

    Raises:
        NumericsError: It says what differs, by how much, and how much rounding would explain.
    """
    u, v = (gaussian_block(operator, 1, generator) for _ in range(2))
    image_u, image_v, again_v = (operator.apply(block).double() for block in (u, v, v))
    size = float(image_u.norm() + image_v.norm())
    rounding = 1000 * torch.finfo(operator.dtype).eps * size

    change = float((image_v - again_v).norm())
    if not change <= (0.0 if operator.device.type == "cpu" else rounding):
        raise NumericsError(
            "the operator is not deterministic: the same vector twice gives products that differ "
            f"by {change:.3g} (their norm is {float(image_v.norm()):.3g})"
        )
    asymmetry = float(((u * image_v).sum() - (v * image_u).sum()).abs())
    allowed = max(rounding, tolerance / 10 * size)
    if not asymmetry <= allowed:
        raise NumericsError(
            f"the operator is not symmetric: |u·Hv - v·Hu| = {asymmetry:.3g}, "
            f"where rounding explains {rounding:.3g} and the tolerance allows {allowed:.3g}"
        )


def residual_norms(
    operator: SymmetricOperator, values: Tensor, vectors: Tensor, block_size: int = 1
) -> Tensor:
    """‖Hv - λv‖₂ by one product with each vector, (n,) float64 on the CPU.

    `values` is (n,) λ, and `vectors` (dimension, n) has the columns v.
    """
    parts = zip(values.split(block_size), vectors.split(block_size, dim=1), strict=True)
    norms = [
        (operator.apply(block) - block * numbers.to(block)).double().norm(dim=0).cpu()
        for numbers, block in parts
    ]
    return torch.cat(norms)


def gaussian_block(operator: SymmetricOperator, width: int, generator: torch.Generator) -> Tensor:
    """Independent standard normal columns for an operator: (dimension, width).

    They are drawn on the generator's device, so that a seed gives the same numbers on every GPU.
    """
    rows = torch.randn(
        width,
        operator.dimension,
        generator=generator,
        device=generator.device,
        dtype=operator.dtype,
    )
    return rows.T.to(operator.device)
