"""The study's one intervention: the max-pool after the first convolution.

The sweep axis `kernel_size` is the pool's kernel; its stride is `kernel_size - 1` and its padding
1, but 0 for a kernel of 2. Every other layer, and the number of parameters, stays the same. Another
way of changing the receptive field (a stride or a dilation of a convolution) would be another
function here, given to the networks in its place.
"""

from __future__ import annotations

from rfray.errors import UserError
from rfray.models.operations import MaxPool

SMALLEST_KERNEL = 2


def receptive_field_pool(kernel_size: int) -> MaxPool:
    """The pool that sets the receptive field.

    Raises:
        UserError: `kernel_size` is under 2: its stride would be 0.
    """
    if kernel_size < SMALLEST_KERNEL:
        raise UserError(
            f"kernel_size is {kernel_size}, but must be at least {SMALLEST_KERNEL}",
            where="axes.kernel_size",
            do="1 is for networks from outside, which are taken as they are",
        )
    padding = 0 if kernel_size == SMALLEST_KERNEL else 1
    return MaxPool(kernel_size, stride=kernel_size - 1, padding=padding)
