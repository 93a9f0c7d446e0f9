"""Networks that cannot be read: their modules are trained as they are, and little is told of them.

Where `torch.fx` cannot follow a forward pass, or every pixel sees every pixel, there is no
description (`rfray.models.network`), and so no receptive field, no map sizes and no dead taps. What
is left is the module itself: its parameters by their own names, and what a trial pass tells.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from rfray.models.network import Network

if TYPE_CHECKING:
    from torch import nn

    from rfray.models.opaque_module import Trial


@dataclass(frozen=True, eq=False)
class OpaqueNetwork:
    """A network of which only its module is known.

    Attributes:
        make: Makes the module, freshly initialised.
        code: Digest of the code that makes it: it enters the keys.
        reason: Why it cannot be read, with the name of what cannot, in words that follow the
            network's name.
        parameters: Name and shape of each trainable parameter, in the module's order.
        weights: Names of the weights of its convolutions, linear layers and attentions, in the
            module's order.
    """

    make: Callable[[], nn.Module]
    code: str
    reason: str
    parameters: tuple[tuple[str, tuple[int, ...]], ...]
    weights: tuple[str, ...]

    @property
    def size(self) -> int:
        """All trainable numbers."""
        return sum(math.prod(shape) for _, shape in self.parameters)


AnyNetwork = Network | OpaqueNetwork
"""A network that was read, or one that cannot be."""


@cache
def trial(network: OpaqueNetwork, image_size: int) -> Trial:
    """What passing some noise through a network tells; it takes as long as that does.

    Args:
        network: The network.
        image_size: Height and width of the images, in pixels.

    Raises:
        UserError: It cannot take such images, or gives something else than logits.
    """
    from rfray.models.opaque_module import tried

    return tried(network, image_size)
