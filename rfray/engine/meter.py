"""Measures how much of its card a stage uses while it runs."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from rfray.device.card import Card
from rfray.engine.job import CardUse

_SECONDS_BETWEEN = 0.5
LEAST_LOOKS = 10


class Meter:
    """Collects the utilisation of a card."""

    def __init__(self, card: Card) -> None:
        self._card = card
        self._seen: list[float | None] | None = None

    def look(self) -> None:
        """Record the card's utilisation now."""
        if self._seen is not None:
            self._seen.append(self._card.utilisation())

    def use(self) -> CardUse | None:
        """What was measured since the first call; None before there are enough measurements.

        It is called at each report of a stage, that is after each epoch. The time before the first
        report does not count: reading, compiling and choosing algorithms use the card little.
        """
        if self._seen is None:
            self._seen = []
        if len(self._seen) < LEAST_LOOKS:
            return None
        known = [part for part in self._seen if part is not None]
        busy = sum(known) / len(known) if known else None
        return CardUse(peak=self._card.peak(), total=self._card.memory().total, utilisation=busy)


class NoMeter(Meter):
    """Measures nothing."""

    def use(self) -> CardUse | None:
        """None."""
        return None


@contextmanager
def metered(card: Card) -> Iterator[Meter]:
    """A meter that measures a card every half second, in its own thread."""
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
