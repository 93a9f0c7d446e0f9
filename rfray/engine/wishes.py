"""What several sweeps together want from one autoscaler. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rfray.engine.prospects import Bundle, Prospects

SECONDS_BETWEEN = 10.0
"""A sweep repeats its request after this time."""

SECONDS_KEPT = 60.0
"""A sweep that is silent for this time counts as dead, and its request is dropped."""


@dataclass(frozen=True)
class _Wish:
    bundles: tuple[Bundle, ...]
    heard: float


class Wishes:
    """The bundles that each sweep wants."""

    def __init__(self) -> None:
        self._wishes: dict[str, _Wish] = {}

    def want(self, sweep: str, bundles: Sequence[Bundle], now: float) -> None:
        """Replace the bundles of a sweep; a sweep that wants none is forgotten."""
        if bundles:
            self._wishes[sweep] = _Wish(tuple(bundles), now)
        else:
            self._wishes.pop(sweep, None)

    def standing(self, now: float) -> list[Bundle]:
        """The bundles of all sweeps; those that were silent for too long are forgotten."""
        for sweep, wish in list(self._wishes.items()):
            if now - wish.heard > SECONDS_KEPT:
                del self._wishes[sweep]
        return [bundle for wish in self._wishes.values() for bundle in wish.bundles]


def granted(bundles: Sequence[Bundle], prospects: Prospects | None) -> list[Bundle]:
    """The bundles that fit into the largest cluster possible; all if that is not known."""
    if prospects is None or prospects.untold:
        return list(bundles)
    return prospects.within(bundles)
