"""Every network by its name. A new network is one file and one line here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from rfray.errors import UserError, nearest
from rfray.models.network import Network
from rfray.models.resnet import resnet50
from rfray.models.vgg import vgg19_rf


class Architecture(Protocol):
    """A function from a cell's choices to a network."""

    def __call__(self, kernel_size: int, width: float, classes: int) -> Network:
        """The network for a pool kernel, a width multiplier and a number of classes."""
        ...


ARCHITECTURES: Mapping[str, Architecture] = {
    "vgg19_rf": vgg19_rf,
    "resnet50": resnet50,
}


def architecture(name: str) -> Architecture:
    """The registered network called `name`; UserError, naming the nearest, if there is none."""
    try:
        return ARCHITECTURES[name]
    except KeyError:
        raise UserError(
            f"no network is called '{name}'", where="axes.arch", do=nearest(name, ARCHITECTURES)
        ) from None
