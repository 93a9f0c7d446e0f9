"""A matrix product added to a matrix in place, on any device."""

from torch import Tensor


def add_product(sum_: Tensor, left: Tensor, right: Tensor, *, alpha: float = 1) -> None:
    """Adds `alpha` · left · right to `sum_`, (m, n), in place; left is (m, k), right (k, n).

    On a GPU the product is computed first and then added: cuBLASLt, which PyTorch uses there, does
    not add to a matrix whose rows are not a multiple of 16 bytes long (CUBLAS_STATUS_INVALID_VALUE,
    seen on an H200 with PyTorch 2.11 and CUDA 13.0), and a Hessian may have any number of rows.
    """
    if sum_.device.type == "cpu":
        sum_.addmm_(left, right, alpha=alpha)
    else:
        sum_.add_(left @ right, alpha=alpha)
