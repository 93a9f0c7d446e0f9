"""What a sweep runs on: Ray, or this very process."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from rfray.engine.cluster_address import chosen_address
from rfray.plan import Plan

if TYPE_CHECKING:
    from rfray.engine.executor import InProcessExecutor
    from rfray.engine.ray_executor import RayExecutor


def on_ray(plan: Plan, tune: Path, address: str | None, started: Callable[[], None]) -> RayExecutor:
    """Join or start Ray, and make the executor that runs jobs on it.

    Args:
        plan: What is to run.
        tune: Folder for Tune's own records.
        address: Of the cluster to join; None starts Ray here, but for RAY_ADDRESS.
        started: Called as soon as Ray has started, which takes the signals for itself.

    Raises:
        UserError: There is no way into the cluster, or Ray cannot start here.
    """
    from rfray.engine.keeper import Requests
    from rfray.engine.ray_executor import RayExecutor
    from rfray.engine.ray_start import start_ray

    start_ray(address)
    started()
    requests = Requests(plan.study.name) if joins_cluster(address) else None
    return RayExecutor(plan.study.name, tune, requests)


def joins_cluster(address: str | None) -> bool:
    """Whether a sweep would run on a cluster that is there, rather than on this machine."""
    return chosen_address(address, os.environ) is not None


def in_process() -> InProcessExecutor:
    """The executor that runs one job after the other in this process.

    A breakpoint in a stage stops at the terminal that the sweep was started from.
    """
    from rfray.engine.executor import InProcessExecutor

    return InProcessExecutor()
