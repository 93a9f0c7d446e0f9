"""A study held by one process: nobody else writes it in the meantime."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from rfray.driver.lease import Claim, Lease, folder_lock, settle_undriven
from rfray.storage import Storage
from rfray.tracking import LedgerWriter, check_store, is_outage, make_database, store_answers


@dataclass(frozen=True)
class Held:
    """A study that this process alone writes.

    Attributes:
        ledger: Where it writes.
        renew: Says to other drivers that this one lives; UserError if one has taken over.
        moved: What was said of studies whose artifacts lay elsewhere than MLflow knew.
    """

    ledger: LedgerWriter
    renew: Callable[[], None]
    moved: list[str]


@contextmanager
def study_held(study: str, storage: Storage) -> Iterator[Held]:
    """Open the ledger of a study, alone; its database and its experiment are made if missing.

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
            # Whoever writes a folder's own database holds the folder's lock.
            renew = _nothing if storage.embedded else held.enter_context(_leased(ledger, claim))
        yield Held(ledger, renew, moved)


@contextmanager
def _leased(ledger: LedgerWriter, claim: Claim) -> Iterator[Callable[[], None]]:
    """Hold the study in the tracking store; what renews the hold."""
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
            # The store is away: the lease runs out by itself.


def _nothing() -> None:
    """There is no lease to renew."""
