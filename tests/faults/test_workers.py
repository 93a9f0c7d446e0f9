"""Workers that are killed, and stages that raise, hang or run out of memory."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest
from faulty import (
    EXPLODED,
    ONE_NETWORK,
    RUNS_OF_A_CELL,
    TRIAL,
    of_a_cell,
    plant_bomb,
    result_of,
    results,
    runs,
    start_driver,
    statuses,
    wait_until,
    workers,
)
from safetensors import safe_open

pytestmark = [pytest.mark.ray, pytest.mark.xdist_group("cluster")]

INJECTED = str(Path(__file__).parent / "injected")


def kill_one(cluster, driver, doing):
    """SIGKILL a worker that does something, as soon as there is one."""

    def killed():
        for worker in workers(pid_of(cluster), doing):
            worker.send_signal(signal.SIGKILL)
            return True
        return False

    wait_until(killed, driver)


def pid_of(cluster):
    return cluster.head_node.all_processes["raylet"][0].process.pid


def epoch_times(entries):
    """Wall time of each epoch: no two computations of an epoch take the very same."""
    return {
        entry["step"]: entry["value"] for entry in entries if entry["metric"] == "epoch_seconds"
    }


def epoch_times_so_far(checkpoint):
    with safe_open(checkpoint, framework="pt") as file:
        history = json.loads(file.metadata()["history"])
    return {record["epoch"]: record["metrics"]["epoch_seconds"] for record in history}


def test_killed_workers_go_on_from_their_last_checkpoint(folder, undisturbed, survived, cluster):
    # Where Tune keeps pickles of its own: nothing there may be loaded.
    for name in ("tuner.pkl", "trainable.pkl", "searcher-state-1.pkl", "experiment_state-1.json"):
        plant_bomb(folder / "results" / "tune" / "faulty" / name, folder)
    driver = start_driver(folder, ONE_NETWORK, "--address", cluster.address)
    checkpoints = folder / "results" / "checkpoints"
    saved = wait_until(lambda: next(checkpoints.glob("*/train.safetensors"), None), driver)
    before = epoch_times_so_far(saved)
    kill_one(cluster, driver, TRIAL)
    kill_one(cluster, driver, "finetune")
    assert driver.ended() == 0, driver.output

    assert statuses(folder) == {"FINISHED": RUNS_OF_A_CELL}
    assert results(runs(folder)) == of_a_cell(undisturbed, "seed0")
    trained = next(run for run in runs(folder) if run.name.endswith("/train"))
    times = epoch_times(result_of(trained)["measurements"])
    assert before
    assert before.items() <= times.items()
    assert not (folder / EXPLODED).exists()
    survived("pickles in the storage folder")
    survived("SIGKILL of a training worker")
    survived("SIGKILL of a stage's worker")


FAULTS = {
    "raises": "ArithmeticError: the stage has a mistake in it",
    "hangs": "it exceeded its time limit of 2 s (resources.hangs)",
    "hoards": "MemoryError",
    "dies": "the task's process was lost",
}


def test_a_stage_that_cannot_end_well_fails_alone_with_its_reason(
    folder, undisturbed, survived, cluster
):
    overrides = [
        ONE_NETWORK, "raises={}", "follows={}", "hangs={}", "hoards={}", "dies={}",
        "resources.hangs={time_limit: 2s, retries: 1}", "resources.dies.retries=1",
        "--address", cluster.address,
    ]  # fmt: skip
    driver = start_driver(folder, *overrides, RFRAY_INJECTED=INJECTED)
    assert driver.ended() == 1, driver.output
    assert "done: 5, failed: 4, skipped because they read a failed one: 1" in driver.output
    found = {run.name.rpartition("/")[2]: run for run in runs(folder)}
    for stage, reason in FAULTS.items():
        assert found[stage].status == "FAILED"
        assert reason in found[stage].tags["rfray.error"], found[stage].tags
    assert "File" in found["hangs"].tags["rfray.traceback"]
    attempts = folder / "results" / "checkpoints" / found["dies"].tags["rfray.key"] / "attempts"
    assert attempts.read_text() == "xx"
    assert results(runs(folder)) == of_a_cell(undisturbed, "seed0")
    survived("a stage that raises")
    survived("a stage that hangs past its time limit")
    survived("a stage that runs out of memory")
    survived("a stage that is killed each time")
