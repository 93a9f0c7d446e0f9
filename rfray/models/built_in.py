"""rfray's own networks by name. A new one is one file and one line here."""

from collections.abc import Mapping
from typing import Protocol

from rfray.models.network import Network
from rfray.models.resnet import resnet50
from rfray.models.vgg import vgg19_rf


class Architecture(Protocol):
    """A function that makes a network from a cell's choices."""

    def __call__(self, kernel_size: int, width: float, classes: int) -> Network:
        """The network for a kernel size, a width multiplier and a number of classes."""
        ...


ARCHITECTURES: Mapping[str, Architecture] = {"vgg19_rf": vgg19_rf, "resnet50": resnet50}
