"""The ledger's only writer: a thread of its own, so that no slot waits for a slow or absent store.

What it is given it does in order, each to its end: while the store is away it tries again and
again. Nothing is lost if the process dies with entries still waiting, for what they say stands
among the artifacts too; the next driver reads it there.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from queue import Empty, PriorityQueue

import tenacity

from rfray.tracking import first_line, is_outage

_LONGEST_PAUSE_SECONDS = 5.0
_BEAT_SECONDS = 5.0
_OPENING, _RECORD, _END = range(3)


@dataclass(frozen=True)
class Outage:
    """The tracking store does not take what it is given.

    Attributes:
        since: When it began, on the monotonic clock.
        reason: What it last said, in one line.
    """

    since: float
    reason: str


@dataclass(order=True)
class _Entry:
    urgency: int
    number: int
    action: Callable[[], None] = field(compare=False)


class Scribe:
    """Does what it is given in its own thread, through outages.

    Args:
        beat: Called before every action and every few seconds: renews the lease.
        wake: Called when an opening is done, everything is written, or the thread has stopped.
    """

    def __init__(self, beat: Callable[[], None], wake: Callable[[], None]) -> None:
        self._beat = beat
        self._wake = wake
        self._queue: PriorityQueue[_Entry] = PriorityQueue()
        self._numbers = itertools.count()
        self._given_up = threading.Event()
        self._failure: Exception | None = None
        self._outage: Outage | None = None
        self._was_away = False
        self._thread = threading.Thread(target=self._work, name="rfray-scribe", daemon=True)
        self._thread.start()

    @property
    def outage(self) -> Outage | None:
        """The outage that lasts, if there is one."""
        return self._outage

    @property
    def was_away(self) -> bool:
        """Whether there ever was one; then a request may have been carried out twice."""
        return self._was_away

    @property
    def settled(self) -> bool:
        """Whether everything is written."""
        return self._queue.unfinished_tasks == 0

    def check(self) -> None:
        """Raise what stopped the thread, if anything did: a refusal, or the loss of the lease."""
        if self._failure is not None:
            raise self._failure

    def open(self, action: Callable[[], None]) -> None:
        """Do something that a slot waits for: before all records that wait."""

        def then_wake() -> None:
            action()
            self._wake()

        self._put(_OPENING, then_wake)

    def record(self, action: Callable[[], None]) -> None:
        """Do something in its turn; it may be done in part and then again from its start."""
        self._put(_RECORD, action)

    def close(self, patience: float) -> bool:
        """Stop when all is written, or after `patience` seconds; whether all was."""
        self._put(_END, lambda: None)
        self._thread.join(patience)
        self._given_up.set()
        return self.settled

    def _put(self, urgency: int, action: Callable[[], None]) -> None:
        self._queue.put(_Entry(urgency, next(self._numbers), action))

    def _work(self) -> None:
        try:
            while not self._given_up.is_set():
                try:
                    entry = self._queue.get(timeout=_BEAT_SECONDS)
                except Empty:
                    self._persist(lambda: None)
                    continue
                self._persist(entry.action)
                self._queue.task_done()
                if self.settled:
                    self._wake()
                if entry.urgency == _END:
                    return
        except Exception as error:  # noqa: BLE001 (told to the driver's thread, which raises it)
            self._failure = error
        finally:
            self._wake()

    def _persist(self, action: Callable[[], None]) -> None:
        patient = tenacity.Retrying(
            retry=tenacity.retry_if_exception(is_outage),
            wait=tenacity.wait_random_exponential(multiplier=0.5, max=_LONGEST_PAUSE_SECONDS),
            stop=tenacity.stop_when_event_set(self._given_up),
            sleep=tenacity.sleep_using_event(self._given_up),
            before_sleep=self._note_outage,
            reraise=True,
        )
        patient(self._attempt, action)
        self._outage = None

    def _attempt(self, action: Callable[[], None]) -> None:
        # The lease first: after an outage the study may be another driver's.
        self._beat()
        action()

    def _note_outage(self, state: tenacity.RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        reason = first_line(error) if isinstance(error, Exception) else ""
        since = self._outage.since if self._outage else time.monotonic()
        self._outage = Outage(since, reason)
        self._was_away = True
