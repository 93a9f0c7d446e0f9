"""The study's only change to a network: the max-pool after the first convolution.

The axis `kernel_size` is the pool's kernel; its stride is `kernel_size - 1`, and its padding is 1,
or 0 for a kernel of 2. All other layers and the number of parameters stay the same. Other ways of
changing the receptive field are in `rfray.models.knobs`.
"""

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
        UserError: `kernel_size` is below 2: the stride would be 0.
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
    """The network with the pool after its stem; the network itself for a kernel_size of 1."""
    if kernel_size == NO_POOL:
        return network
    return network.with_behind(pool_place(network), POOL_NAME, receptive_field_pool(kernel_size))


def pool_place(network: Network) -> str:
    """The layer after which the pool is put: the network's stem, or its first convolution."""
    return network.stem or network.convolutions[0].name
