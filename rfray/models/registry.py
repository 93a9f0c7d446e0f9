"""Every network by its name. A new network is one file and one line here.

A name with a colon is of a network from outside (`rfray.models.outside`).
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Protocol

from rfray.errors import UserError, nearest
from rfray.models.network import Network
from rfray.models.outside import comes_from_outside, outside_network
from rfray.models.outside import naming_problem as outside_problem
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
    """The network called `name`; UserError, naming the nearest, if there is none."""
    problem = naming_problem(name)
    if problem is not None:
        raise UserError(problem, where="axes.arch")
    return partial(outside_network, name) if comes_from_outside(name) else ARCHITECTURES[name]


def naming_problem(name: str) -> str | None:
    """What is wrong with a network's name, and what to do about it; None if nothing is."""
    if comes_from_outside(name):
        return outside_problem(name)
    if name not in ARCHITECTURES:
        return f"no network is called '{name}' ({nearest(name, ARCHITECTURES)})"
    return None
