"""The study's one intervention: the max-pool after the first convolution.

The sweep axis `kernel_size` is the pool's kernel; its stride is `kernel_size - 1` and its padding
1, but 0 for a kernel of 2. Every other layer, and the number of parameters, stays the same. Other
ways of changing the receptive field stand in `rfray.models.knobs`.
"""

from __future__ import annotations

from rfray.errors import UserError
from rfray.models.network import Network
from rfray.models.operations import MaxPool

SMALLEST_KERNEL = 2

NO_POOL = 1
"""The kernel_size of a network without the pool."""

POOL_NAME = "receptive_field_pool"
"""Name of the pool's layer."""


def receptive_field_pool(kernel_size: int) -> MaxPool:
    """The pool that sets the receptive field.

    Raises:
        UserError: `kernel_size` is under 2: its stride would be 0.
    """
    if kernel_size < SMALLEST_KERNEL:
        raise UserError(
            f"kernel_size is {kernel_size}, but must be at least {SMALLEST_KERNEL}",
            where="axes.kernel_size",
            do="1 means no pool",
        )
    padding = 0 if kernel_size == SMALLEST_KERNEL else 1
    return MaxPool(kernel_size, stride=kernel_size - 1, padding=padding)


def with_pool(network: Network, kernel_size: int) -> Network:
    """The network with the pool behind its stem; the very network for a kernel_size of 1."""
    if kernel_size == NO_POOL:
        return network
    return network.with_behind(pool_place(network), POOL_NAME, receptive_field_pool(kernel_size))


def pool_place(network: Network) -> str:
    """The layer behind which the pool stands: the network's stem, or its first convolution."""
    return network.stem or network.convolutions[0].name
