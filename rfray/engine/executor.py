"""Where jobs run: one interface for Ray and for this process."""

import threading
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import psutil

from rfray.engine.job import Job, Outcome, Progress
from rfray.engine.places import Machine, Occupancy
from rfray.engine.prospects import Bundle, Prospects
from rfray.engine.stopping import Stopping
from rfray.engine.worker import run_job
from rfray.study import Request


@dataclass(frozen=True)
class Progressed:
    """New measurements of a running job, or what it is doing."""

    key: str
    progress: Progress


@dataclass(frozen=True)
class Ended:
    """A job has ended, and its slot is free."""

    outcome: Outcome


Event = Progressed | Ended


class Executor(Protocol):
    """Runs jobs in parallel and reports their progress and outcomes."""

    @property
    def machines(self) -> Mapping[str, Machine]:
        """The machines there are now; the same object as before if nothing has changed."""

    @property
    def prospects(self) -> Prospects | None:
        """The machines that the cluster could start on request; None if that is not known."""
        return None

    def want(self, bundles: Sequence[Bundle]) -> None:
        """Ask the cluster for these resources in total; returns at once, and may be repeated."""
        return  # by default no cluster can be asked

    def submit(self, job: Job, occupancy: Occupancy, request: Request, machine: str | None) -> None:
        """Start a job, on `machine` if there is room; returns at once."""

    def no_more(self, stage: str) -> None:
        """Say that no more jobs of `stage` will come, so that processes for them may end."""
        return  # by default no process waits

    def events(self, timeout: float) -> list[Event]:
        """The events since the last call; waits up to `timeout` seconds for the first one."""

    def all_submitted(self) -> None:
        """Say that all jobs are submitted that may start after the events so far."""
        return  # by default nothing waits for it

    def wake(self) -> None:
        """Have `events` return, even without events; may be called from any thread."""

    def close(self) -> None:
        """Stop all jobs and release the workers."""


class InProcessExecutor(Executor):
    """One job at a time in this process, on one core: for tests, and for a debugger."""

    def __init__(self) -> None:
        self._waiting: deque[Job] = deque()
        self._woken = threading.Event()
        self._stopping = Stopping()
        self._here = {"here": Machine(Occupancy(cpus=1, gpus=0), psutil.virtual_memory().total)}

    @property
    def machines(self) -> Mapping[str, Machine]:
        """One core."""
        return self._here

    def submit(self, job: Job, occupancy: Occupancy, request: Request, machine: str | None) -> None:
        """Queue a job; `events` runs it."""
        del occupancy, request, machine
        self._waiting.append(job)

    def events(self, timeout: float) -> list[Event]:
        """Run the next job, if there is one; returns all its events."""
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
        """Drop the queued jobs."""
        self._waiting.clear()
