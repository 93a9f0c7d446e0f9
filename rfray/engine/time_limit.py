"""A stage that takes longer than it may: its process ends itself and leaves word why.

A stage may hang in code that holds Python's lock, where no thread and no signal handler of Python
would run. `faulthandler` watches from a thread of its own that needs no lock; it writes where every
thread stood and ends the process. What it wrote is the word that it leaves: whoever finds it, a
retry or the driver, knows that the attempt ran over its time limit and need not be tried again.
"""

from __future__ import annotations

import faulthandler
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rfray.engine.job import Job, Outcome


@contextmanager
def time_limited(job: Job) -> Iterator[None]:
    """End this process if the job's time limit passes within the block."""
    if job.time_limit is None:
        yield
        return
    note = _note(job)
    with note.open("w", encoding="utf-8") as file:
        faulthandler.dump_traceback_later(job.time_limit, exit=True, file=file)
        try:
            yield
        finally:
            faulthandler.cancel_dump_traceback_later()
    note.unlink()


def overrun(job: Job) -> Outcome | None:
    """The outcome of a job whose process ended itself at the time limit; None if none did."""
    note = _note(job)
    if job.time_limit is None or not note.is_file():
        return None
    traceback = note.read_text(encoding="utf-8")
    if not traceback:
        return None  # killed by something else before its time was over
    return Outcome(
        key=job.key,
        status="failed",
        seconds=job.time_limit,
        reason=f"it ran over its time limit of {job.time_limit:g} s (resources.{job.stage})",
        traceback=traceback,
    )


def _note(job: Job) -> Path:
    """Named by the attempt: a later one, which is to be tried, does not find it."""
    return Path(job.checkpoint) / f"attempt-{job.attempt}-stood-at.txt"
