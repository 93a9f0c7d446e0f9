"""Control-C and SIGTERM: what is finished is kept, and how to go on is said."""

from __future__ import annotations

import os
import signal

import pytest
from faulty import LONG_TRAINING, ONE_NETWORK, locked, start_driver, statuses, wait_until

pytestmark = [pytest.mark.ray, pytest.mark.xdist_group("cluster")]


def to_the_driver(driver, number):
    driver.send(number)


def to_its_whole_group(driver, number):
    os.killpg(driver.process.pid, number)


@pytest.mark.parametrize(
    ("number", "send"),
    [
        pytest.param(signal.SIGTERM, to_the_driver, id="SIGTERM"),
        pytest.param(
            signal.SIGINT,
            to_its_whole_group,
            id="SIGINT to the group, as a terminal sends it",
            marks=pytest.mark.long,
        ),
    ],
)
def test_the_first_signal_keeps_what_is_finished_and_says_how_to_go_on(
    folder, survived, number, send
):
    driver = start_driver(folder, ONE_NETWORK)
    wait_until(lambda: statuses(folder)["FINISHED"] >= 1, driver)
    send(driver, number)
    assert driver.ended() == 130, driver.output
    assert "finished runs are kept. To resume:" in driver.output
    again = f"{folder}/faulty.yaml '{ONE_NETWORK}' --storage {folder}/results"
    assert again in driver.output
    assert "Traceback" not in driver.output
    assert "SIGTERM received" not in driver.output
    after = statuses(folder)
    assert after["FINISHED"] >= 1
    assert set(after) <= {"FINISHED", "KILLED"}
    survived(f"{number.name} of the driver")


def test_a_second_signal_stops_at_once(folder, survived, cluster):
    driver = start_driver(folder, ONE_NETWORK, LONG_TRAINING, "--address", cluster.address)
    wait_until(lambda: statuses(folder)["RUNNING"] >= 1, driver)
    # With the database locked the first signal alone leads to a wait for it.
    with locked(folder / "results" / "mlflow.db"):
        driver.send(signal.SIGINT)
        driver.process.join(1)
        assert driver.process.is_alive(), driver.output
        driver.send(signal.SIGINT)
        assert driver.ended(8) == 130
    survived("two signals to the driver")
