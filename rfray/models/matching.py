"""The strength of a knob whose receptive field is nearest to a wanted one."""

import sys
from bisect import bisect_left
from collections.abc import Callable, Sequence

from rfray.errors import UserError
from rfray.models.geometry import geometry
from rfray.models.network import Network

FAR = 0.25
"""A receptive field that differs from the wanted one by more than this share is too far off."""


def nearest_strength(
    turn: Callable[[int], Network], strengths: Sequence[int], image_size: int, wanted: int
) -> int:
    """The strength whose network has the receptive field nearest to `wanted`.

    The field grows with the strength, so it is found by bisection. Strengths at which a map has no
    pixel are too high. Of two equally near ones it is the lower.

    Args:
        turn: Makes the network at a strength.
        strengths: The possible strengths, ascending.
        image_size: Height and width of the images, in pixels.
        wanted: The receptive field at the last convolution, in pixels.

    Raises:
        UserError: A map has no pixel even at the lowest strength.
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
    """Whether a receptive field is too far from the wanted one for a comparison."""
    return abs(reached - wanted) > FAR * wanted
