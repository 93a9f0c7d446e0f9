"""Where jobs run: one interface for Ray and for this very process."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import psutil

from rfray.engine.job import Job, Outcome, Progress
from rfray.engine.machine import Machine
from rfray.engine.places import Occupancy
from rfray.engine.prospects import Bundle, Prospects
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
    def machines(self) -> Mapping[str, Machine]:
        """What there is to run on by now; the same object as before if nothing has changed."""
        ...

    @property
    def prospects(self) -> Prospects | None:
        """What more the cluster could have if it is asked; None where that is not known."""
        ...

    def want(self, bundles: Sequence[Bundle]) -> None:
        """Ask for so much in all, what is there included; returns at once, and may be repeated."""
        ...

    def submit(self, job: Job, occupancy: Occupancy, request: Request, machine: str | None) -> None:
        """Start a job, on the machine that is meant for it if it has room; returns at once."""
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
        self._here = {"here": Machine(Occupancy(cpus=1, gpus=0), psutil.virtual_memory().total)}

    @property
    def machines(self) -> Mapping[str, Machine]:
        """One core."""
        return self._here

    @property
    def prospects(self) -> Prospects | None:
        """No more will come."""
        return None

    def want(self, bundles: Sequence[Bundle]) -> None:
        """Nobody can be asked."""
        del bundles

    def submit(self, job: Job, occupancy: Occupancy, request: Request, machine: str | None) -> None:
        """Queue a job; `events` runs it."""
        del occupancy, request, machine
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
