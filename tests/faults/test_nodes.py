"""Machines that die, and one that joins, while they train and run stages."""

from __future__ import annotations

import pytest
from faulty import (
    ONE_NETWORK,
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


def test_machines_join_leave_and_die_while_one_sweep_goes_on(folder, undisturbed, survived):
    """One network, whose training may be lost once."""
    overrides = [ONE_NETWORK, "resources.train.retries=1"]
    with ray_cluster(head_cpus=0) as cluster:

        def joined(cpus=1):
            return cluster.add_node(num_cpus=cpus)

        driver = start_driver(folder, "--address", cluster.address, *overrides)
        wait_until(
            lambda: "waiting for a machine with a CPU or GPU to join" in driver.output, driver
        )
        survived("a cluster that has no machine yet")

        first = joined()
        wait_until(lambda: busy(first, TRIAL), driver)
        assert "the study runs on CPUs" in driver.output
        cluster.remove_node(first, allow_graceful=False)
        wait_until(lambda: "for a machine with 1 CPUs and 0 GPUs" in driver.output, driver)
        survived("the only machine lost while it trains")

        second = joined()
        wait_until(lambda: busy(second, TRIAL), driver)
        third = joined()
        # Of such an end Ray says that it was expected: no retry is left, and it takes none.
        cluster.remove_node(second, allow_graceful=True)
        survived("a machine that leaves in order while it trains")
        wait_until(lambda: busy(third, TRIAL, *STAGES), driver)
        survived("a machine that joins while the sweep runs")

        wait_until(lambda: statuses(folder)["FINISHED"] >= 1, driver)
        before = {run.run_id: run.end_time for run in runs(folder) if run.status == "FINISHED"}
        cluster.remove_node(third, allow_graceful=False)
        survived("a machine lost while it runs stages")
        joined(cpus=2)
        assert driver.ended() == 0, driver.output

    assert statuses(folder) == {"FINISHED": RUNS_OF_A_CELL}
    assert before.items() <= {run.run_id: run.end_time for run in runs(folder)}.items()
    assert results(runs(folder)) == of_a_cell(undisturbed, "seed0")
