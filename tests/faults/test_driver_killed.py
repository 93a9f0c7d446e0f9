"""SIGKILL of the driver at random moments."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from faulty import ONE_NETWORK, of_a_cell, results, runs, start_driver, wait_until

from rfray.driver.sweep_run import prepared
from rfray.plan import make_plan
from rfray.storage import Storage
from rfray.study.sweep_file import load_study
from rfray.tracking import LedgerWriter, make_database

pytestmark = [pytest.mark.ray, pytest.mark.xdist_group("cluster")]


@pytest.mark.parametrize(
    ("seed", "kills", "networks"), [(0, 2, 1), pytest.param(1, 10, 2, marks=pytest.mark.long)]
)
def test_killed_again_and_again_the_next_start_finishes(
    folder, undisturbed, survived, cluster, seed, kills, networks
):
    moments = random.Random(seed)
    words = (f"axes.seed={list(range(networks))}", "--address", cluster.address)
    expected = undisturbed if networks == 2 else of_a_cell(undisturbed, "seed0")
    killed = 0
    while killed < kills:
        (folder / "driver.log").unlink(missing_ok=True)
        driver = start_driver(folder, *words)
        if moments.random() < 0.75:  # the others while it starts, and settles what it finds
            wait_until_under_way(driver)
        driver.process.join(moments.uniform(0, 6))
        if driver.process.is_alive():
            driver.kill()
            killed += 1
            finished = Counter(run.tags["rfray.key"] for run in runs(folder) if done(run))
            assert set(finished.values()) <= {1}
        else:
            assert driver.process.exitcode == 0, driver.output
            # Nothing is left to kill it at: the same study from its beginning.
            check(folder, expected)
            (folder / "results").rename(folder / f"results-{killed}")
    last = start_driver(folder, *words)
    assert last.ended() == 0, last.output
    check(folder, expected)
    survived("SIGKILL of the driver", kills)


def test_killed_with_its_lease_it_does_not_keep_the_next_start_waiting(folder, survived, cluster):
    database = folder / "shared.db"
    make_database(database)
    shared = f"sqlite:///{database}"
    words = (ONE_NETWORK, "--tracking-uri", shared, "--address", cluster.address)
    driver = start_driver(folder, *words)
    ledger = LedgerWriter(shared, "faulty")
    wait_until(lambda: any(ledger.runs("faulty")), driver)
    driver.kill()
    plan = make_plan(load_study(str(folder / "faulty.yaml")))
    with prepared(plan, Storage(folder / "results", shared)) as ready:
        assert ready.missing > 0
        assert not any(run.status == "RUNNING" for run in ready.standing.strays)
    survived("SIGKILL of a driver that holds a lease")


def wait_until_under_way(driver):
    wait_until(lambda: "faulty: " in driver.output, driver)


def done(run):
    return run.status == "FINISHED"


def check(folder, expected):
    found = runs(folder)
    assert Counter(run.status for run in found) == {"FINISHED": len(expected.metrics)}
    assert len({run.tags["rfray.key"] for run in found}) == len(found)
    assert results(found) == expected
