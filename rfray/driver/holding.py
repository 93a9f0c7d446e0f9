"""A study held by one process: no other process writes it during that time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from rfray.driver.lease import Claim, Lease, folder_lock, settle_undriven
from rfray.storage import Storage
from rfray.tracking import LedgerWriter, check_store, is_outage, make_database, store_answers


@dataclass(frozen=True)
class Held:
    """A study that only this process writes.

    Attributes:
        ledger: The tracking store.
        renew: Renews the lease; UserError if another driver has taken over.
        moved: Notes about studies whose artifacts were moved, in sentences.
    """

    ledger: LedgerWriter
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
            make_database(storage.database)
        check_store(storage.tracking_uri)
        with store_answers(storage.tracking_uri):
            ledger = LedgerWriter(storage.tracking_uri, study)
            # The lock of the folder is enough for the database in it.
            renew = (
                (lambda: None) if storage.embedded else held.enter_context(_leased(ledger, claim))
            )
        yield Held(ledger, renew, moved)


@contextmanager
def _leased(ledger: LedgerWriter, claim: Claim) -> Iterator[Callable[[], None]]:
    """Hold the lease of the study; yields the function that renews it."""
    lease = Lease(ledger, claim)
    lease.take()
    try:
        yield lease.renew_if_due
    finally:
        try:
            lease.give_up()
        except Exception as error:
            if not is_outage(error):
                raise
            # The store does not answer: the lease expires by itself.
