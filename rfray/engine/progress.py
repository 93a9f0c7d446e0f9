"""The progress of a running task: a file next to its checkpoint, which the driver reads.

Trainings report through Tune. A task cannot send anything to the driver before it ends, but every
machine sees the folder of checkpoints.
"""

import time
from collections.abc import Callable
from pathlib import Path

from pydantic import ValidationError

from rfray.engine.job import NOTHING_TOLD, Measurement, Progress
from rfray.files.atomic import write_atomically

SECONDS_BETWEEN = 5.0
"""The least time between two writes of a task. More often would cost time and help no reader."""

_FILE = "progress.json"


class ProgressNote:
    """Collects the progress of a task, and writes it to a file every few seconds.

    Args:
        checkpoint: The task's folder; the file of an earlier attempt is deleted.
        clock: Seconds.
    """

    def __init__(self, checkpoint: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._path = checkpoint / _FILE
        self._clock = clock
        self._written = clock()
        self._measured: list[Measurement] = []
        self._path.unlink(missing_ok=True)

    def __call__(self, told: Progress) -> None:
        """Add more progress."""
        self._measured.extend(told.measurements)
        # What the task is doing is written at once: the next progress may come much later.
        if told.doing or self._clock() - self._written >= SECONDS_BETWEEN:
            self._written = self._clock()
            everything = Progress(measurements=self._measured, doing=told.doing)
            try:
                write_atomically(self._path, everything.model_dump_json())
            except OSError:
                # Not an error: the outcome contains all of it. If the disk is full, writing the
                # checkpoint or the artifacts fails.
                return


def noted_progress(checkpoint: Path) -> Progress:
    """The progress of a running task from its folder; empty if it cannot be read."""
    try:
        return read_progress((checkpoint / _FILE).read_bytes())
    except OSError:
        return NOTHING_TOLD


def read_progress(text: str | bytes) -> Progress:
    """Progress from JSON; empty if it cannot be read, because the outcome contains it again."""
    try:
        return Progress.model_validate_json(text)
    except ValidationError:
        return NOTHING_TOLD
