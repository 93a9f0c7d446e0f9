"""Every network by its name: rfray's own, and those of libraries, files and plug-ins."""

from collections.abc import Callable
from functools import partial

from rfray.errors import UserError, nearest
from rfray.models.built_in import ARCHITECTURES, Architecture
from rfray.models.opaque import AnyNetwork
from rfray.models.outside import OUTSIDE, comes_from_outside, outside_network
from rfray.models.outside import naming_problem as outside_problem

__all__ = ["ARCHITECTURES", "Architecture", "architecture", "naming_problem"]


def architecture(name: str) -> Callable[..., AnyNetwork]:
    """The function that makes the network called `name`, with the arguments of an `Architecture`.

    Raises:
        UserError: There is none, with the nearest name.
    """
    problem = naming_problem(name)
    if problem is not None:
        raise UserError(problem, where="axes.arch")
    return partial(outside_network, name) if comes_from_outside(name) else ARCHITECTURES[name]


def naming_problem(name: str) -> str | None:
    """What is wrong with a network's name, and what to do about it; None if nothing is."""
    if comes_from_outside(name):
        return outside_problem(name)
    if name not in ARCHITECTURES:
        advice = nearest(name, (*ARCHITECTURES, *OUTSIDE.plugins()))
        return f"no network is called '{name}' ({advice})"
    return None
