"""How large a Lanczos basis may be, and whether it is on the device or in main memory."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from rfray.numerics.errors import NumericsError
from rfray.numerics.lanczos import least_basis_size, usual_basis_size


@dataclass(frozen=True)
class BasisPlace:
    """The size and place of the basis of `largest_eigenvalues`.

    Attributes:
        basis_size: Number of vectors.
        on_device: Whether it is on the device that computes the products; if not, in main memory.
    """

    basis_size: int
    on_device: bool


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
    restarts more often and needs more products.

    Args:
        dimension: Of the operator.
        dtype: Of its blocks.
        count: Number of wanted eigenvalues.
        budget: Bytes that the basis may take.
        device_budget: Bytes that it may take on the device that computes.
        block_size: Vectors multiplied at once.

    Raises:
        NumericsError: Not even the smallest basis fits into the budget; it says how much is needed.
    """
    vector = dimension * torch.empty(0, dtype=dtype).element_size()
    least = least_basis_size(dimension, count, block_size)
    affordable = int(budget // vector) - block_size
    if affordable < least:
        raise NumericsError(
            f"{count} eigenvalues in {dimension:,} dimensions need a basis of at least "
            f"{(least + block_size) * vector / 1e9:.1f} GB; it may take {budget / 1e9:.1f} GB"
        )
    size = min(usual_basis_size(dimension, count, block_size), affordable)
    return BasisPlace(size, (size + block_size) * vector <= device_budget)
