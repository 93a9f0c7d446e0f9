"""The strength of a knob that comes nearest to a receptive field."""

from __future__ import annotations

import sys
from bisect import bisect_left
from collections.abc import Callable, Sequence

from rfray.errors import UserError
from rfray.models.geometry import geometry
from rfray.models.network import Network

FAR = 0.25
"""A field that misses what was asked for by more than this share of it comes nowhere near."""


def nearest_strength(
    turn: Callable[[int], Network], strengths: Sequence[int], image_size: int, wanted: int
) -> int:
    """The strength whose network's receptive field comes nearest to `wanted`.

    The field grows with the strength, so it is found by bisection. Strengths at which a map
    collapses are too strong. Of two that come equally near, it is the weaker.

    Args:
        turn: From a strength to a network.
        strengths: Those to choose from, ascending.
        image_size: Height and width of the images, in pixels.
        wanted: The receptive field at the last convolution, in pixels.

    Raises:
        UserError: A map collapses even at the weakest.
    """
    weakest = geometry(turn(strengths[0]), image_size).receptive_field

    def field(strength: int) -> int:
        network = turn(strength)
        try:
            return geometry(network, image_size).receptive_field
        except UserError:
            return sys.maxsize

    above = bisect_left(strengths, wanted, key=field)
    if above == 0:
        return strengths[0] if weakest >= wanted else strengths[above]
    candidates = strengths[above - 1 : above + 1]
    return min(candidates, key=lambda strength: abs(field(strength) - wanted))


def misses(reached: int, wanted: int) -> bool:
    """Whether a receptive field is too far from what was asked for to be set beside it."""
    return abs(reached - wanted) > FAR * wanted
