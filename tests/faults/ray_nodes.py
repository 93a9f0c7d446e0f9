"""A Ray of several nodes on this machine, each a raylet with workers of its own."""

from __future__ import annotations

import os
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

import psutil
from ray.cluster_utils import Cluster

_QUICK = {
    "RAY_health_check_initial_delay_ms": "1000",
    "RAY_health_check_period_ms": "500",
    "RAY_health_check_timeout_ms": "1000",
    "RAY_health_check_failure_threshold": "4",
    "RAY_USAGE_STATS_ENABLED": "0",
    "PYTHONPATH": os.pathsep.join(
        [str(Path(__file__).parent / "injected"), os.environ.get("PYTHONPATH", "")]
    ),
}


@contextmanager
def ray_cluster(head_cpus: int):
    """A cluster whose head has so many cores; its workers know the stages of `injected`."""
    with mock.patch.dict(os.environ, _QUICK):
        cluster = Cluster(
            initialize_head=True, head_node_args={"num_cpus": head_cpus, "include_dashboard": False}
        )
    try:
        yield cluster
    finally:
        cluster.shutdown()


def raylet(node) -> psutil.Process:
    """The raylet of a node: its workers descend from it."""
    return psutil.Process(node.all_processes["raylet"][0].process.pid)
