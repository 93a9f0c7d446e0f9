"""The outcome of a job that cannot tell it itself: past its time limit, dead, or misunderstood.

A stage may hang in code that holds Python's global lock, so that no thread and no signal handler of
Python runs. `faulthandler` has a thread that does not need this lock. It writes the traceback of
every thread to a file and ends the process. A retry, or the driver, finds the file and knows that
the attempt exceeded its time limit and must not be tried again.

`answered` and `lost` raise no exception: in Ray's thread it would be lost, and the node would count
as running for ever.
"""

import faulthandler
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import ValidationError

from rfray.engine.job import Job, Outcome


def answered(job: Job, text: str) -> Outcome:
    """The outcome from a job's JSON; a failed outcome if it cannot be read."""
    try:
        return Outcome.model_validate_json(text)
    except ValidationError as error:
        reason = error.errors()[0]["msg"]
        return lost(job, f"its answer cannot be read (from another version of rfray?): {reason}")


def lost(job: Job, reason: str) -> Outcome:
    """The outcome of a job whose process died."""
    return overrun(job) or Outcome(key=job.key, status="failed", reason=reason)


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
    """The outcome of a job whose process ended itself at the time limit; None if it did not."""
    note = _note(job)
    if job.time_limit is None or not note.is_file():
        return None
    traceback = note.read_text(encoding="utf-8")
    if not traceback:
        return None  # killed before the time limit by something else
    return Outcome(
        key=job.key,
        status="failed",
        seconds=job.time_limit,
        reason=f"it exceeded its time limit of {job.time_limit:g} s (resources.{job.stage})",
        traceback=traceback,
    )


def _note(job: Job) -> Path:
    """The file of this attempt; a later attempt has another one."""
    return Path(job.checkpoint) / f"attempt-{job.attempt}-stood-at.txt"
