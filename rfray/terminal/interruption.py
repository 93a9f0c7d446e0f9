"""Control-C and SIGTERM: the first asks the sweep to stop, the second stops it at once."""

import os
import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any, NoReturn, Self

INTERRUPTED = 130
"""Exit code of a sweep that was stopped."""

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interruption:
    """Handles both signals from `listen` until the end of its `with` block.

    The first sets `asked`: the sweep is to stop. The second calls `insist`.
    """

    def __init__(self, insist: Callable[[], object]) -> None:
        self.asked = False
        self._insist = insist
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        self._before = {number: signal.getsignal(number) for number in _SIGNALS}
        return self

    def __exit__(self, *error: object) -> None:
        if _may_listen():
            for number, handler in self._before.items():
                signal.signal(number, handler)

    def listen(self) -> None:
        """Handle the signals from now on. Does nothing outside the main thread."""
        if _may_listen():
            for number in _SIGNALS:
                signal.signal(number, self._hear)

    def _hear(self, number: int, frame: FrameType | None) -> None:
        del number, frame
        if self.asked:
            self._insist()
        self.asked = True


def leave() -> NoReturn:
    """End this process at once, for a command that is interrupted twice."""
    os._exit(INTERRUPTED)


def interrupt() -> NoReturn:
    """Raise KeyboardInterrupt in the main thread, as Python itself does."""
    raise KeyboardInterrupt


def _may_listen() -> bool:
    return threading.current_thread() is threading.main_thread()
