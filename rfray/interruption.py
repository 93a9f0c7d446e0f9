"""Control-C and SIGTERM: the first asks the sweep to stop, the second insists."""

from __future__ import annotations

import os
import signal
from types import FrameType

INTERRUPTED = 130
"""Exit code of a sweep that was stopped."""


class Interruption:
    """Hears both signals.

    Attributes:
        asked: Whether the sweep is to stop.
    """

    def __init__(self) -> None:
        self.asked = False

    def listen(self) -> None:
        """Hear the signals from now on; only the main thread may call this."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._hear)

    def _hear(self, number: int, frame: FrameType | None) -> None:
        del number, frame
        if self.asked:
            os._exit(INTERRUPTED)
        self.asked = True
