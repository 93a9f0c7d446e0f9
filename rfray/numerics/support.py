"""Leaves out the coordinates of weights that change nothing: dead filters and dead taps.

The row of such a weight in the Hessian is zero, so eigenvectors of nonzero eigenvalues are zero
there. In a vgg19_rf with 1×1 maps these are four weights of five, and without them the basis of an
eigenvalue iteration is five times smaller.
"""

from dataclasses import replace

import torch
from torch import Tensor

from rfray.numerics.errors import NumericsError
from rfray.numerics.operator import SymmetricOperator, gaussian_block

_ROUNDINGS = 10
"""Largest relative size of a product outside the support, in units of its dtype's precision."""


def support(operator: SymmetricOperator, spare: int, generator: torch.Generator) -> Tensor:
    """The coordinates whose row is not zero, and up to `spare` others; costs two products.

    A row counts as zero if its product with two independent Gaussian vectors is exactly 0. The
    spare coordinates keep `spare` copies of the eigenvalue 0, so that the `spare` largest
    eigenvalues of the restriction are those of the operator. Returns (kept,) int64 indices,
    ascending.
    """
    products = operator.apply(gaussian_block(operator, 2, generator))
    touched = (products != 0).any(dim=1)
    untouched = (~touched).nonzero().flatten()
    touched[untouched[:spare]] = True
    return touched.nonzero().flatten()


def restricted(operator: SymmetricOperator, kept: Tensor) -> SymmetricOperator:
    """The operator on the coordinates `kept`: the principal submatrix of those rows and columns.

    Outside `kept`, (kept,) int64 indices, ascending, every row must be zero: `apply` raises
    NumericsError if a product is not zero there, up to rounding.
    """
    dead = torch.ones(operator.dimension, dtype=torch.bool, device=operator.device)
    dead[kept] = False
    rounding = _ROUNDINGS * torch.finfo(operator.dtype).eps
    largest = torch.zeros((), dtype=operator.dtype, device=operator.device)

    def apply(block: Tensor) -> Tensor:
        nonlocal largest
        product = operator.apply(embedded(block, kept, operator.dimension))
        # On a GPU, zeros may be nearly zero because of rounding (1e-10 of a product's norm, seen on
        # an H200). The largest norm is used because a product with a null vector is nearly zero.
        largest = torch.maximum(largest, product.norm())
        if bool((product * dead[:, None]).norm() > rounding * largest):
            raise NumericsError("a product is not zero in coordinates that have zero rows")
        return product[kept]

    return replace(operator, dimension=len(kept), apply=apply)


def embedded(block: Tensor, kept: Tensor, dimension: int) -> Tensor:
    """Columns on the coordinates `kept`, with zeros elsewhere: (kept, b) to (dimension, b)."""
    full = block.new_zeros(block.shape[1], dimension)
    full[:, kept] = block.T
    return full.T
