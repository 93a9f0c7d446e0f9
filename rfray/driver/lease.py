"""One driver per study: a lock in the storage folder, and a lease in the tracking store.

The lock is for drivers with the same folder. The operating system releases it when the process
ends. The lease is for drivers on any machine with the same tracking store: a tag of the study's
experiment, which the driver renews.
"""

import json
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

from filelock import FileLock, Timeout

from rfray import tracking
from rfray.errors import UserError
from rfray.files.atomic import write_atomically
from rfray.storage import Storage

LEASE_TAG = "rfray.driver"
RENEW_SECONDS = 10.0
EXPIRE_SECONDS = 60.0
"""Longer than the difference between the clocks of two machines, and than the delay of a renewal on
a slow server."""

_RACE_SECONDS = 1.0

_SETTLING_SECONDS = 2.0
"""Longer than a command holds a study to correct the addresses of its moved artifacts."""


@dataclass(frozen=True)
class Claim:
    """Who drives a study.

    Attributes:
        since: Time of its start, ISO 8601.
        renewed: Time of its last renewal, seconds since the epoch.
        token: Identifies this driver.
    """

    host: str
    process: int
    folder: str
    since: str
    renewed: float
    token: str


def own_claim(folder: Path) -> Claim:
    """The claim of this process."""
    return Claim(
        host=socket.gethostname(),
        process=os.getpid(),
        folder=str(folder),
        since=datetime.now(UTC).isoformat(timespec="seconds"),
        renewed=time.time(),
        token=uuid4().hex,
    )


def in_force(other: Claim | None, own: Claim, now: float) -> bool:
    """Whether `other` prevents `own` from driving the study, at `now` seconds since the epoch.

    `own` must hold the lock of its folder. So an earlier driver with the same folder is dead.
    """
    if other is None or other.token == own.token:
        return False
    if (other.host, other.folder) == (own.host, own.folder):
        return False
    return now - other.renewed < EXPIRE_SECONDS


@contextmanager
def folder_lock(folder: Path, study: str) -> Iterator[Claim]:
    """Hold the study in this storage folder; yields the claim of this process.

    Raises:
        UserError: Another process holds it.
    """
    holder = folder / f"{study}.driver.json"
    try:
        locked = FileLock(folder / f"{study}.lock").acquire(timeout=_SETTLING_SECONDS)
    except Timeout as error:
        known = _parsed(holder.read_text(encoding="utf-8")) if holder.is_file() else None
        raise _refusal(study, known, str(folder), "wait for it, or stop it") from error
    with locked:
        claim = own_claim(folder)
        write_atomically(holder, json.dumps(asdict(claim)))
        yield claim


@contextmanager
def _kept_from_drivers(folder: Path, study: str) -> Iterator[bool]:
    """Hold a study of a folder for a moment; yields False if a sweep holds it."""
    if Path(study).name != study:
        yield True  # renamed in MLflow: no sweep has a study of such a name
        return
    try:
        locked = FileLock(folder / f"{study}.lock").acquire(timeout=0)
    except Timeout:
        yield False
        return
    with locked:
        yield True


def settle_undriven(tracking_uri: str) -> list[str]:
    """`settle_moved` for the studies of a store, except those that a sweep works on."""
    return tracking.settle_moved(tracking_uri, _kept_from_drivers)


class Lease:
    """The lease of one study in the tracking store, for a claim that holds the lock of its folder.

    `clock` tells seconds since the epoch.
    """

    def __init__(
        self, ledger: tracking.LedgerWriter, claim: Claim, clock: Callable[[], float] = time.time
    ) -> None:
        self._ledger = ledger
        self._claim = claim
        self._clock = clock

    def take(self) -> None:
        """Claim the study; UserError if another driver holds it."""
        self._refuse_other()
        collision = None
        try:
            self._write()
        except Exception as error:
            if not tracking.is_outage(error):
                raise
            collision = error  # what a database answers if another writes it too
        # Two drivers that start together may both find it free. The one that wrote last has it.
        time.sleep(_RACE_SECONDS)
        self._refuse_other()
        if collision is not None:
            raise collision

    def renew_if_due(self) -> None:
        """Renew the claim if it is old; UserError if another driver has taken over the study."""
        if self._clock() - self._claim.renewed < RENEW_SECONDS:
            return
        held = self._held()
        if held is None or held.token != self._claim.token:
            raise self._refusal(held, "this one was not seen for too long and has stopped")
        self._write()

    def give_up(self) -> None:
        """Give the lease back, so that the next driver need not wait until it expires."""
        held = self._held()
        if held is not None and held.token == self._claim.token:
            self._ledger.set_note(LEASE_TAG, "")

    def _held(self) -> Claim | None:
        return _parsed(self._ledger.note(LEASE_TAG))

    def _refuse_other(self) -> None:
        held = self._held()
        if held is not None and in_force(held, self._claim, self._clock()):
            seen = datetime.fromtimestamp(held.renewed, UTC).isoformat(timespec="seconds")
            raise self._refusal(
                held,
                f"wait for it, or stop it; last seen at {seen}, it counts as gone "
                f"{EXPIRE_SECONDS:g} s after that",
            )

    def _refusal(self, held: Claim | None, do: str) -> UserError:
        return _refusal(self._ledger.study, held, self._ledger.tracking_uri, do)

    def _write(self) -> None:
        self._claim = replace(self._claim, renewed=self._clock())
        self._ledger.set_note(LEASE_TAG, json.dumps(asdict(self._claim)))


def _parsed(text: str) -> Claim | None:
    try:
        return Claim(**json.loads(text))
    except (ValueError, TypeError):
        return None  # given up, or left by another version of rfray


def _refusal(study: str, holder: Claim | None, where: str, do: str) -> UserError:
    who = (
        f"{holder.host} (process {holder.process}) since {holder.since}"
        if holder
        else "another process since a moment ago"
    )
    return UserError(f"a sweep of '{study}' already runs on {who}", where=where, do=do)


@dataclass(frozen=True)
class Held:
    """A study that only this process writes.

    Attributes:
        renew: Renews the lease; UserError if another driver has taken over.
        moved: Notes about studies whose artifacts were moved, in sentences.
    """

    ledger: tracking.LedgerWriter
    renew: Callable[[], None]
    moved: list[str]


@contextmanager
def study_held(study: str, storage: Storage) -> Iterator[Held]:
    """Hold a study and open its ledger; the database and the experiment are created if missing.

    Raises:
        UserError: The storage cannot be written, the tracking store does not answer, or another
            process holds the study.
    """
    storage.make()
    moved = settle_undriven(storage.tracking_uri)
    with ExitStack() as held:
        claim = held.enter_context(folder_lock(storage.root, study))
        if storage.embedded:
            tracking.make_database(storage.database)
        tracking.check_store(storage.tracking_uri)
        with tracking.store_answers(storage.tracking_uri):
            ledger = tracking.LedgerWriter(storage.tracking_uri, study)
            # The lock of the folder is enough for the database in it.
            renew = (
                (lambda: None) if storage.embedded else held.enter_context(_leased(ledger, claim))
            )
        yield Held(ledger, renew, moved)


@contextmanager
def _leased(ledger: tracking.LedgerWriter, claim: Claim) -> Iterator[Callable[[], None]]:
    """Hold the lease of the study; yields the function that renews it."""
    lease = Lease(ledger, claim)
    lease.take()
    try:
        yield lease.renew_if_due
    finally:
        try:
            lease.give_up()
        except Exception as error:
            if not tracking.is_outage(error):
                raise
            # The store does not answer: the lease expires by itself.
