"""How far a running task is, left beside its checkpoint, where the driver looks now and then.

A training cell tells through Tune. A task has no way to the driver before it ends, and the folder
of checkpoints is one that every machine sees.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from pydantic import ValidationError

from rfray.engine.job import NOTHING_TOLD, Measurement, Progress
from rfray.files.atomic import write_atomically

SECONDS_BETWEEN = 5.0
"""A task tells no more often than that: writing costs, and nobody reads faster."""

_FILE = "progress.json"


class ProgressNote:
    """Takes what a task tells, and leaves all of it in a file every few seconds.

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

    def __call__(self, told: Progress) -> None:
        """Take some more."""
        self._measured.extend(told.measurements)
        # What is done now is said at once: it may be long before there is more to say.
        if told.doing or self._clock() - self._written >= SECONDS_BETWEEN:
            self._written = self._clock()
            everything = Progress(measurements=self._measured, doing=told.doing)
            try:
                write_atomically(self._path, everything.model_dump_json())
            except OSError:
                # All of it comes with the outcome again. Where the disk is full, the checkpoint or
                # the artifacts say so.
                return


def noted_progress(checkpoint: Path) -> Progress:
    """What a running task has left in its folder so far; nothing where nothing can be read."""
    try:
        return read_progress((checkpoint / _FILE).read_bytes())
    except OSError:
        return NOTHING_TOLD


def read_progress(text: str | bytes) -> Progress:
    """What a job tells as JSON; nothing if it cannot be read, for all comes again with the end."""
    try:
        return Progress.model_validate_json(text)
    except ValidationError:
        return NOTHING_TOLD
