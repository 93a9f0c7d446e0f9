"""How far a running task is, left beside its checkpoint, where the driver looks now and then.

A training cell tells through Tune. A task has no way to the driver before it ends, and the folder
of checkpoints is one that every machine sees.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from rfray.artifacts import write_atomically
from rfray.engine.job import Measurement

SECONDS_BETWEEN = 5.0
"""A task tells no more often than that: writing costs, and nobody reads faster."""

_FILE = "progress.json"
_MEASUREMENTS = TypeAdapter(list[Measurement])


class ProgressNote:
    """Takes what a task measures, and leaves all of it in a file every few seconds.

    Args:
        checkpoint: The task's folder; what an earlier attempt left there is forgotten.
        clock: Seconds.
    """

    def __init__(self, checkpoint: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._path = checkpoint / _FILE
        self._clock = clock
        self._written = clock()
        self._measured: list[Measurement] = []
        self._path.unlink(missing_ok=True)

    def __call__(self, measured: Iterable[Measurement]) -> None:
        """Take some more."""
        self._measured.extend(measured)
        if self._clock() - self._written >= SECONDS_BETWEEN:
            self._written = self._clock()
            text = _MEASUREMENTS.dump_json(self._measured).decode()
            try:
                write_atomically(self._path, text)
            except OSError:
                # All of it comes with the outcome again. Where the disk is full, the checkpoint or
                # the artifacts say so.
                return


def noted_progress(checkpoint: Path) -> list[Measurement]:
    """What a running task has left in its folder so far; nothing where nothing can be read."""
    try:
        return _MEASUREMENTS.validate_json((checkpoint / _FILE).read_bytes())
    except (OSError, ValidationError):
        return []
