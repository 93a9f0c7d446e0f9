"""Networks that cannot be read: their modules are trained, but little is known about them.

If `torch.fx` cannot follow a forward pass, or if every pixel sees every pixel, there is no
description (`rfray.models.network`), and so no receptive field, no map sizes and no dead taps.
Known are the module's parameters by their names, and the result of a trial pass.
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
        make: Makes the module, newly initialised.
        code: Digest of the code that makes it, which is part of keys.
        reason: Why it cannot be read, with the name of the part, in words that follow the
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
        """Number of all trainable parameters."""
        return sum(math.prod(shape) for _, shape in self.parameters)


AnyNetwork = Network | OpaqueNetwork
"""A network that was read, or one that cannot be read."""


@cache
def trial(network: OpaqueNetwork, image_size: int) -> Trial:
    """The result of passing noise, images of that size in pixels, through a network.

    Raises:
        UserError: It cannot take such images, or its output is not logits.
    """
    from rfray.models.opaque_module import tried

    return tried(network, image_size)
