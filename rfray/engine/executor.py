"""Where jobs run: one interface for Ray and for this very process."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass
from typing import Protocol

from rfray.engine.frontier import Occupancy
from rfray.engine.job import Job, Outcome, Progress
from rfray.engine.stopping import Stopping
from rfray.engine.worker import run_job
from rfray.study import Request


@dataclass(frozen=True)
class Progressed:
    """A running job tells what it has measured since it last told, or what it does."""

    key: str
    progress: Progress


@dataclass(frozen=True)
class Ended:
    """A job has ended, and what it occupied is free."""

    outcome: Outcome


Event = Progressed | Ended


class Executor(Protocol):
    """Runs jobs side by side and tells what becomes of them."""

    @property
    def capacity(self) -> Occupancy:
        """What there is to run on by now."""
        ...

    def submit(self, job: Job, occupancy: Occupancy, request: Request) -> None:
        """Start a job; returns at once."""
        ...

    def no_more(self, stage: str) -> None:
        """Say that no further job of `stage` will come, so that what waits for them may end."""
        ...

    def events(self, timeout: float) -> list[Event]:
        """What has happened since the last call; waits up to `timeout` seconds for something."""
        ...

    def wake(self) -> None:
        """Have `events` return although nothing has happened; from any thread."""
        ...

    def close(self) -> None:
        """Stop whatever runs and let go of the workers."""
        ...


class InProcessExecutor:
    """One job at a time in this process: for tests, and for a debugger."""

    def __init__(self) -> None:
        self._waiting: deque[Job] = deque()
        self._woken = threading.Event()
        self._stopping = Stopping()

    @property
    def capacity(self) -> Occupancy:
        """One core."""
        return Occupancy(cpus=1, gpus=0)

    def submit(self, job: Job, occupancy: Occupancy, request: Request) -> None:
        """Queue a job; `events` runs it."""
        del occupancy, request
        self._waiting.append(job)

    def no_more(self, stage: str) -> None:
        """Nothing waits here."""
        del stage

    def events(self, timeout: float) -> list[Event]:
        """Run the next job, if there is one, and tell all that happened."""
        if not self._waiting:
            self._woken.wait(timeout)
            self._woken.clear()
            return []
        job = self._waiting.popleft()
        told: list[Event] = []

        def tell(progress: Progress) -> None:
            told.append(Progressed(job.key, progress))
            self._stopping.told(job, progress)

        outcome = run_job(job, tell)
        return [*told, Ended(outcome)]

    def wake(self) -> None:
        """Let a waiting `events` return."""
        self._woken.set()

    def close(self) -> None:
        """Forget what waits."""
        self._waiting.clear()
