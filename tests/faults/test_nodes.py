"""Machines that die, and one that joins, while they train and run stages."""

from __future__ import annotations

import pytest
from faulty import (
    RUNS,
    RUNS_OF_A_CELL,
    TRIAL,
    of_a_cell,
    results,
    runs,
    start_driver,
    statuses,
    wait_until,
    workers,
)
from ray_nodes import ray_cluster, raylet

pytestmark = [pytest.mark.ray, pytest.mark.xdist_group("nodes")]

STAGES = ("prune", "finetune")


def busy(node, *doing):
    return any(workers(raylet(node).pid, title) for title in doing)


def test_the_work_of_a_machine_that_dies_moves_to_the_others(folder, undisturbed, survived):
    with ray_cluster(head_cpus=1) as cluster:
        nodes = [cluster.add_node(num_cpus=1), cluster.add_node(num_cpus=1)]
        driver = start_driver(folder, "--address", cluster.address)

        def trains():
            saved = list((folder / "results" / "checkpoints").glob("*/train.safetensors"))
            return saved and next((node for node in nodes if busy(node, TRIAL)), None)

        first = wait_until(trains, driver)
        cluster.remove_node(first, allow_graceful=False)
        nodes.remove(first)
        survived("a machine lost while it trains")

        joined = cluster.add_node(num_cpus=1)
        wait_until(lambda: busy(joined, TRIAL, *STAGES), driver)
        survived("a machine that joins while the sweep runs")

        def computes():
            return statuses(folder)["FINISHED"] >= 1 and busy(nodes[0], TRIAL, *STAGES)

        wait_until(computes, driver)
        before = {run.run_id: run.end_time for run in runs(folder) if run.status == "FINISHED"}
        cluster.remove_node(nodes[0], allow_graceful=False)
        survived("a machine lost while it runs stages")
        assert driver.ended() == 0, driver.output

    assert statuses(folder) == {"FINISHED": RUNS}
    assert before.items() <= {run.run_id: run.end_time for run in runs(folder)}.items()
    assert results(runs(folder)) == undisturbed


def test_machines_are_waited_for_at_the_start_and_when_all_are_gone(folder, undisturbed, survived):
    overrides = ["axes.seed=[0]", "resources.train.retries=0"]
    with ray_cluster(head_cpus=0) as cluster:
        driver = start_driver(folder, "--address", cluster.address, *overrides)
        wait_until(
            lambda: "waiting for a machine with a CPU or GPU to join" in driver.output, driver
        )
        survived("a cluster that has no machine yet")

        only = cluster.add_node(num_cpus=1)
        wait_until(lambda: busy(only, TRIAL), driver)
        assert "the study runs on CPUs" in driver.output

        # Of such an end Ray says that it was expected: it does not count as one of the retries.
        cluster.remove_node(only, allow_graceful=True)
        wait_until(lambda: "for a machine with 1 CPUs and 0 GPUs" in driver.output, driver)
        survived("all machines lost, the last one in order, and no retry allowed")
        cluster.add_node(num_cpus=2)
        assert driver.ended() == 0, driver.output

    assert statuses(folder) == {"FINISHED": RUNS_OF_A_CELL}
    assert results(runs(folder)) == of_a_cell(undisturbed, "seed0")
