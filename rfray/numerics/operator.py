"""A symmetric linear operator: all that eigenvalue and quadrature algorithms know of a matrix."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from rfray.numerics.errors import NumericsError


@dataclass(frozen=True)
class SymmetricOperator:
    """A real symmetric matrix H of which only the products with vectors are known.

    Attributes:
        dimension: Number of rows, and of columns.
        device: Where blocks are taken and products are given.
        dtype: Of blocks and products, float32 or float64.
        apply: H times each column of a block: (dimension, b) to (dimension, b).
    """

    dimension: int
    device: torch.device
    dtype: torch.dtype
    apply: Callable[[Tensor], Tensor]


@dataclass
class ProductCounter:
    """How many vectors a counted operator has multiplied.

    Attributes:
        products: Vectors so far.
    """

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
    """The same operator, which adds to `counter` and refuses products that are not finite.

    Its `apply` raises NumericsError if a product holds NaN or infinity.
    """

    def apply(block: Tensor) -> Tensor:
        product = operator.apply(block)
        counter.products += block.shape[1]
        if not bool(torch.isfinite(product).all()):
            raise NumericsError(f"product {counter.products} with the operator is not finite")
        return product

    return replace(operator, apply=apply)


def relocated(operator: SymmetricOperator, device: torch.device) -> SymmetricOperator:
    """The same operator, which takes and gives blocks on `device` but computes where it did.

    The basis of an eigenvalue iteration lies where its operator takes blocks: this keeps the basis
    in main memory while the products stay on the accelerator.
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

    With Gaussian u and v the same product taken twice must agree, bit for bit on a CPU and within
    rounding elsewhere, and u·Hv must equal v·Hu within rounding, or within a tenth of a tolerance
    that is coarser: float32 gives the products of a network whose batch norms divide by small
    deviations to a few digits only.

    Args:
        operator: The operator to try.
        generator: Draws u and v.
        tolerance: Largest residual, relative to its eigenvalue, that is asked of what follows.

    Raises:
        NumericsError: Says what deviates, by how much, and what rounding would explain.
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


def gaussian_block(operator: SymmetricOperator, width: int, generator: torch.Generator) -> Tensor:
    """Independent standard normal columns for an operator: (dimension, width).

    They are drawn on the generator's device, so that a seed means the same on every accelerator.
    """
    rows = torch.randn(
        width,
        operator.dimension,
        generator=generator,
        device=generator.device,
        dtype=operator.dtype,
    )
    return rows.T.to(operator.device)
