"""Leave out the coordinates that a Hessian never touches: dead filters, taps that see only padding.

The row of such a weight is zero, so it neither takes from nor gives to any eigenvector of a nonzero
eigenvalue. On a vgg19_rf with 1×1 maps they are four weights of five, and without them the basis of
an eigenvalue iteration is five times smaller.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from rfray.numerics.errors import NumericsError
from rfray.numerics.operator import SymmetricOperator, gaussian_block

_ROUNDINGS = 10
"""What a product may have outside the support, in units of the precision of its dtype."""


def support(operator: SymmetricOperator, spare: int, generator: torch.Generator) -> Tensor:
    """The coordinates whose row is not zero, and up to `spare` others; costs two products.

    A row that is not zero gives exactly 0 with a Gaussian vector by accident alone; two independent
    vectors must both show it. The spare coordinates keep `spare` copies of the eigenvalue 0, so
    that the `spare` largest eigenvalues of the restriction are those of the operator.

    Args:
        operator: The operator to restrict.
        spare: How many coordinates of zero rows to keep.
        generator: Draws the two vectors.

    Returns:
        (kept,) int64 indices, ascending.
    """
    products = operator.apply(gaussian_block(operator, 2, generator))
    touched = (products != 0).any(dim=1)
    untouched = (~touched).nonzero().flatten()
    touched[untouched[:spare]] = True
    return touched.nonzero().flatten()


def restricted(operator: SymmetricOperator, kept: Tensor) -> SymmetricOperator:
    """The operator on the coordinates `kept`: the principal submatrix of those rows and columns.

    Args:
        operator: The operator to restrict.
        kept: (kept,) int64 indices, ascending, outside which every row is zero.

    Returns:
        An operator of dimension `len(kept)`. Its `apply` raises NumericsError if a product reaches
        outside `kept` by more than rounding: then `kept` was no support.
    """
    dead = torch.ones(operator.dimension, dtype=torch.bool, device=operator.device)
    dead[kept] = False
    rounding = _ROUNDINGS * torch.finfo(operator.dtype).eps
    largest = torch.zeros((), dtype=operator.dtype, device=operator.device)

    def apply(block: Tensor) -> Tensor:
        nonlocal largest
        product = operator.apply(embedded(block, kept, operator.dimension))
        # A card's convolutions may sum what is zero to what is nearly zero (1e-10 of a product's
        # norm, seen on an H200). A product with a null vector is nearly zero itself.
        largest = torch.maximum(largest, product.norm())
        if bool((product * dead[:, None]).norm() > rounding * largest):
            raise NumericsError("a product reaches coordinates that were taken for untouched ones")
        return product[kept]

    return replace(operator, dimension=len(kept), apply=apply)


def embedded(block: Tensor, kept: Tensor, dimension: int) -> Tensor:
    """Columns on the coordinates `kept`, with zeros elsewhere: (kept, b) to (dimension, b)."""
    full = block.new_zeros(block.shape[1], dimension)
    full[:, kept] = block.T
    return full.T
