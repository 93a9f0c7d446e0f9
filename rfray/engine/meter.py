"""How much of its card a stage takes, looked at while it runs."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from rfray.device.card import Card
from rfray.engine.job import CardUse

_SECONDS_BETWEEN = 0.5
LEAST_LOOKS = 10


class Meter:
    """Gathers what it is shown of a card.

    Args:
        card: The card.
    """

    def __init__(self, card: Card) -> None:
        self._card = card
        self._seen: list[float | None] | None = None

    def look(self) -> None:
        """See how busy the card is just now."""
        if self._seen is not None:
            self._seen.append(self._card.utilisation())

    def use(self) -> CardUse | None:
        """What was seen since the first such question; None before there were enough looks.

        A stage asks with each report. What is behind the first one, a whole epoch, is what goes on:
        before it lie reading, compiling and choosing algorithms, in which a card has little to do.
        """
        if self._seen is None:
            self._seen = []
        if len(self._seen) < LEAST_LOOKS:
            return None
        known = [part for part in self._seen if part is not None]
        busy = sum(known) / len(known) if known else None
        return CardUse(peak=self._card.peak(), total=self._card.memory().total, utilisation=busy)


class NoMeter(Meter):
    """Sees nothing."""

    def use(self) -> CardUse | None:
        """Nothing to tell."""
        return None


@contextmanager
def metered(card: Card) -> Iterator[Meter]:
    """A meter that looks at a card every half second, in a thread of its own."""
    meter, ended = Meter(card), threading.Event()

    def watch() -> None:
        while not ended.wait(_SECONDS_BETWEEN):
            meter.look()

    thread = threading.Thread(target=watch, name="rfray-meter", daemon=True)
    thread.start()
    try:
        yield meter
    finally:
        ended.set()
        thread.join()
