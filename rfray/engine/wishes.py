"""What several sweeps together want of one autoscaler, each for as long as it says so. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rfray.engine.prospects import Bundle, Prospects

SECONDS_BETWEEN = 10.0
"""A sweep says again what it wants after so long."""

SECONDS_KEPT = 60.0
"""A sweep that has said nothing for so long is dead, and what it wanted is wanted no more."""


@dataclass(frozen=True)
class _Wish:
    bundles: tuple[Bundle, ...]
    heard: float


class Wishes:
    """Bundles that sweeps want, by sweep."""

    def __init__(self) -> None:
        self._wishes: dict[str, _Wish] = {}

    def want(self, sweep: str, bundles: Sequence[Bundle], now: float) -> None:
        """A sweep wants these bundles instead of those before; none, and it is forgotten."""
        if bundles:
            self._wishes[sweep] = _Wish(tuple(bundles), now)
        else:
            self._wishes.pop(sweep, None)

    def standing(self, now: float) -> list[Bundle]:
        """What is wanted by those that have been heard of lately; the others are forgotten."""
        for sweep, wish in list(self._wishes.items()):
            if now - wish.heard > SECONDS_KEPT:
                del self._wishes[sweep]
        return [bundle for wish in self._wishes.values() for bundle in wish.bundles]


def granted(bundles: Sequence[Bundle], prospects: Prospects | None) -> list[Bundle]:
    """Those of the bundles that a cluster could ever have at once; all, where nobody knows."""
    if prospects is None or prospects.untold:
        return list(bundles)
    return prospects.within(bundles)
