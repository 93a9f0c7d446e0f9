"""What has become of a job that runs no more, whatever it answered.

Nothing here raises: in Ray's thread nobody would hear it, and the node would count as running for
ever.
"""

from __future__ import annotations

from pydantic import ValidationError

from rfray.engine.job import Job, Outcome
from rfray.engine.time_limit import overrun


def answered(job: Job, text: str) -> Outcome:
    """The outcome that a job gave as JSON; a failed one if it cannot be read."""
    try:
        return Outcome.model_validate_json(text)
    except ValidationError as error:
        reason = error.errors()[0]["msg"]
        return lost(job, f"its answer cannot be read, maybe it is of another rfray: {reason}")


def lost(job: Job, reason: str) -> Outcome:
    """The outcome of a job whose process died without giving one."""
    return overrun(job) or Outcome(key=job.key, status="failed", reason=reason)
