"""Two drivers on one study: the second is refused, wherever it runs; a dead one blocks nobody."""

from __future__ import annotations

import threading
from contextlib import ExitStack
from dataclasses import replace

import pytest

from rfray.driver.lease import (
    EXPIRE_SECONDS,
    RENEW_SECONDS,
    Lease,
    folder_lock,
    in_force,
    own_claim,
)
from rfray.driver.sweep_run import prepared
from rfray.errors import UserError
from rfray.plan import make_plan
from rfray.storage import Storage
from rfray.study.sweep_file import load_study
from rfray.tracking import LedgerWriter, make_database

pytestmark = pytest.mark.xdist_group("ledger")


@pytest.fixture
def shared(folder):
    """A tracking store that belongs to no storage folder, as a server's does."""
    database = folder / "shared.db"
    make_database(database)
    return f"sqlite:///{database}"


@pytest.fixture
def plan(folder):
    return make_plan(load_study(str(folder / "faulty.yaml")))


def storage(folder, name, shared):
    return Storage(folder / name, shared)


def test_a_second_driver_from_another_folder_is_refused_with_the_first_ones_name(
    folder, shared, plan, survived
):
    ours = own_claim(folder)
    with ExitStack() as held:
        held.enter_context(prepared(plan, storage(folder, "one", shared)))
        with pytest.raises(UserError) as refusal:
            held.enter_context(prepared(plan, storage(folder, "two", shared)))
    assert f"already runs on {ours.host} (process {ours.process}) since 20" in str(refusal.value)
    # It is gone, and says so: nobody waits for its lease to run out.
    with prepared(plan, storage(folder, "two", shared)):
        survived("a second driver")


def test_what_another_host_claims_holds_until_it_was_silent_for_too_long(folder):
    own = own_claim(folder)
    other = replace(own, host="elsewhere", token="other", renewed=1000.0)
    assert in_force(other, own, 1000.0 + EXPIRE_SECONDS - 1)
    assert not in_force(other, own, 1000.0 + EXPIRE_SECONDS)
    # The same folder on the same host: we hold its lock, so whoever held it before is dead.
    assert not in_force(replace(other, host=own.host), own, 1000.0)
    assert in_force(replace(other, host=own.host, folder="/other"), own, 1000.0)
    assert not in_force(None, own, 0.0)


def test_a_driver_that_was_away_too_long_learns_that_another_has_taken_over(
    folder, shared, survived
):
    ledger = LedgerWriter(shared, "faulty")
    claim = own_claim(folder)
    now = claim.renewed
    first = Lease(ledger, claim, lambda: now)
    first.take()
    second = Lease(
        ledger, replace(claim, host="elsewhere", folder="/there", token="second"), lambda: now
    )
    with pytest.raises(UserError, match="already runs on"):
        second.take()
    now += EXPIRE_SECONDS
    second.take()
    with pytest.raises(UserError, match="already runs on elsewhere"):
        first.renew_if_due()
    now += RENEW_SECONDS
    second.renew_if_due()
    first.give_up()
    second.renew_if_due()
    survived("a driver whose study was taken over")


def test_of_drivers_that_start_at_once_one_goes_on(folder, shared):
    ledger = LedgerWriter(shared, "faulty")
    taken = []

    def take(number):
        claim = replace(own_claim(folder), folder=f"/{number}")
        try:
            Lease(ledger, claim).take()
        except UserError:
            return
        taken.append(number)

    threads = [threading.Thread(target=take, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(taken) == 1


def test_the_folders_lock_falls_with_its_holder(folder):
    with ExitStack() as first:
        first.enter_context(folder_lock(folder, "faulty"))
        with pytest.raises(UserError, match="already runs on"):
            first.enter_context(folder_lock(folder, "faulty"))
    with folder_lock(folder, "faulty") as claim:
        assert claim.folder == str(folder)
