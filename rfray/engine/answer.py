"""The outcome of a job that has ended, also if its answer is missing or damaged.

Nothing here raises an exception: in Ray's thread it would be lost, and the node would count as
running for ever.
"""

from __future__ import annotations

from pydantic import ValidationError

from rfray.engine.job import Job, Outcome
from rfray.engine.time_limit import overrun


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
