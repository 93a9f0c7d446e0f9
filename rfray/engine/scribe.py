"""The only writer of the ledger, in its own thread: no slot waits for a slow or absent store.

The actions on one run are carried out in order. During an outage of the store the scribe tries
again and again. If the store has transactions, waiting actions are written together; else, for a
server, the actions on several runs at the same time, so that none waits for the answers to others.
If the process dies before all is written, nothing is lost: the artifacts contain the same, and the
next driver reads it there.
"""

import itertools
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from queue import Empty, PriorityQueue
from typing import TypeVar

import tenacity

from rfray.errors import first_line
from rfray.tracking import is_outage

T = TypeVar("T")

_LONGEST_PAUSE_SECONDS = 5.0
_BEAT_SECONDS = 5.0
_OPENING, _RECORD, _LAST, _END = range(4)
_MOST_TOGETHER = 16
"""Entries in one transaction: more would delay its end, fewer would wait for the disk often."""

_MOST_AT_ONCE = 8
"""Requests to a server at the same time; MLflow's server has four processes by default."""


@dataclass(frozen=True)
class Outage:
    """The tracking store cannot be written.

    Attributes:
        since: When this began, on the monotonic clock.
        reason: The last error, in one line.
    """

    since: float
    reason: str


@dataclass(order=True)
class _Entry:
    """An action, which returns what to do once it is committed.

    Attributes:
        urgency: Smaller is earlier.
        number: Its place among the equally urgent ones.
        run: The key of its run: actions on the same run are carried out in order.
        action: Writes to the store.
        carried_out: Whether a server has answered, so that a new attempt leaves it out.
    """

    urgency: int
    number: int
    run: str = field(compare=False)
    action: Callable[[], Callable[[], None]] = field(compare=False)
    carried_out: bool = field(default=False, compare=False)


class Scribe:
    """Carries out actions in its own thread, also through outages.

    Args:
        beat: Called before every action and every few seconds, to renew the lease.
        wake: Called when an opening is done, everything is written, or the thread has stopped.
        together: Makes one transaction of the actions within; None if the store has no
            transactions.
    """

    def __init__(
        self,
        beat: Callable[[], None],
        wake: Callable[[], None],
        together: Callable[[], AbstractContextManager[None]] | None = None,
    ) -> None:
        self._beat = beat
        self._wake = wake
        self._together = together
        self._most = _MOST_TOGETHER if together else _MOST_AT_ONCE
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
        """The present outage, if there is one."""
        return self._outage

    @property
    def was_away(self) -> bool:
        """Whether there was an outage; then a request may have been carried out twice."""
        return self._was_away

    @property
    def settled(self) -> bool:
        """Whether everything is written."""
        return self._queue.unfinished_tasks == 0

    def check(self) -> None:
        """Raise the error that stopped the thread, if any: a refusal, or the loss of the lease."""
        if self._failure is not None:
            raise self._failure

    def open(self, run: str, action: Callable[[], T], then: Callable[[T], None]) -> None:
        """Carry out an action that a slot waits for, before all waiting records.

        Args:
            run: Key of the run that it opens.
            action: Writes to the store; it may be rolled back and carried out again.
            then: Called in a thread of the scribe with the result, after the commit.
        """

        def tell(found: T) -> None:
            then(found)
            self._wake()

        self._put(_OPENING, run, action, tell)

    def record(
        self, run: str, action: Callable[[], None], then: Callable[[None], None] = lambda _: None
    ) -> None:
        """Carry out an action on a run in its turn; after an outage again, from its start."""
        self._put(_RECORD, run, action, then)

    def record_last(self, action: Callable[[], None]) -> None:
        """Carry out an action after all others."""
        self._put(_LAST, "", action, lambda _: None)

    def close(self, patience: float) -> bool:
        """Stop when all is written, or after `patience` seconds; returns whether all is written."""
        self._put(_END, "", lambda: None, lambda _: None)
        self._thread.join(patience)
        self._given_up.set()
        return self.settled

    def _put(
        self, urgency: int, run: str, action: Callable[[], T], then: Callable[[T], None]
    ) -> None:
        def done() -> Callable[[], None]:
            found = action()
            return lambda: then(found)

        self._queue.put(_Entry(urgency, next(self._numbers), run, done))

    def _work(self) -> None:
        try:
            while not self._given_up.is_set():
                entries = self._next()
                self._write(entries)
                for _ in entries:
                    self._queue.task_done()
                if entries and self.settled:
                    self._wake()
                if any(entry.urgency == _END for entry in entries):
                    return
        except Exception as error:  # noqa: BLE001 (told to the driver's thread, which raises it)
            self._failure = error
        finally:
            self._wake()

    def _next(self) -> list[_Entry]:
        """The next entries to write; nothing if none came for a while."""
        entries: list[_Entry] = []
        try:
            while len(entries) < self._most:
                entry = self._queue.get(
                    timeout=None if entries else _BEAT_SECONDS, block=not entries
                )
                if entries and entry.urgency >= _LAST:
                    self._queue.put(entry)
                    self._queue.task_done()
                    break
                entries.append(entry)
        except Empty:
            pass  # no more entries wait
        return entries

    def _write(self, entries: Sequence[_Entry]) -> None:
        """Write entries; one by one if a transaction of several is refused."""
        try:
            self._persist(entries)
        except Exception as error:
            if self._together is None or len(entries) < 2 or is_outage(error):
                raise
            for entry in entries:
                self._persist([entry])

    def _persist(self, entries: Sequence[_Entry]) -> None:
        patient = tenacity.Retrying(
            retry=tenacity.retry_if_exception(is_outage),
            wait=tenacity.wait_random_exponential(multiplier=0.5, max=_LONGEST_PAUSE_SECONDS),
            stop=tenacity.stop_when_event_set(self._given_up),
            sleep=tenacity.sleep_using_event(self._given_up),
            before_sleep=self._note_outage,
            reraise=True,
        )
        for then in patient(self._attempt, entries):
            then()
        self._outage = None

    def _attempt(self, entries: Sequence[_Entry]) -> list[Callable[[], None]]:
        # The lease first: during an outage another driver may have taken over the study.
        self._beat()
        if self._together is None:
            self._at_once(entry for entry in entries if not entry.carried_out)
            return []
        if not entries:
            return []
        with self._together():
            return [entry.action() for entry in entries]

    def _at_once(self, entries: Iterable[_Entry]) -> None:
        """Carry out the actions on different runs at the same time; raise an error when all end."""
        by_run: dict[str, list[_Entry]] = {}
        for entry in entries:
            by_run.setdefault(entry.run, []).append(entry)
        errors: list[Exception] = []
        threads = [
            # As daemons, so that the process can end while a server keeps one waiting.
            threading.Thread(target=_in_order, args=(own, errors), name="rfray-scribe", daemon=True)
            for own in by_run.values()
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if errors:  # a refusal first: to try again would not help
            raise min(errors, key=is_outage)

    def _note_outage(self, state: tenacity.RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        reason = first_line(error) if isinstance(error, Exception) else ""
        since = self._outage.since if self._outage else time.monotonic()
        self._outage = Outage(since, reason)
        self._was_away = True


def _in_order(entries: Iterable[_Entry], errors: list[Exception]) -> None:
    """Carry out entries up to the first error, which is appended to `errors`."""
    try:
        for entry in entries:
            then = entry.action()
            entry.carried_out = True
            then()
    except Exception as error:  # noqa: BLE001 (raised in the scribe's thread)
        errors.append(error)
