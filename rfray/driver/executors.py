"""What a sweep runs on: Ray, or this process."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rfray.data.registry import refuse_unreadable
from rfray.engine.cluster_address import chosen_address
from rfray.plan import Plan

if TYPE_CHECKING:
    from rfray.engine.executor import Executor, InProcessExecutor
    from rfray.engine.ray_executor import RayExecutor


@dataclass(frozen=True)
class Workers:
    """What runs the stages of a sweep.

    Attributes:
        executor: Joins or starts it for a plan; called only if something is to run. Its other
            arguments: a folder for Tune's own records, and a function to call when it has started.
        check_data: Called before that with the names of the data sets to be read; raises UserError
            if one cannot be read.
        leaves_the_terminal: Whether the terminal is free for a live table.
    """

    executor: Callable[[Plan, Path, Callable[[], None]], Executor]
    check_data: Callable[[Iterable[str]], None]
    leaves_the_terminal: bool


def on_ray(address: str | None) -> Workers:
    """Ray: the cluster at an address, else the one in RAY_ADDRESS, else started here."""

    def executor(plan: Plan, tune: Path, started: Callable[[], None]) -> RayExecutor:
        return _ray_executor(plan, tune, address, started)

    # On a cluster the workers have the data; the driver's machine may not have them.
    check = (lambda _: None) if joins_cluster(address) else refuse_unreadable
    return Workers(executor, check, leaves_the_terminal=True)


def in_process() -> Workers:
    """This process, one job after the other. Breakpoints in a stage stop in its terminal."""
    return Workers(_in_process_executor, refuse_unreadable, leaves_the_terminal=False)


def joins_cluster(address: str | None) -> bool:
    """Whether a sweep would run on an existing cluster and not start Ray on this machine."""
    return chosen_address(address, os.environ) is not None


def _ray_executor(
    plan: Plan, tune: Path, address: str | None, started: Callable[[], None]
) -> RayExecutor:
    """Join or start Ray; UserError if the cluster cannot be entered, or Ray cannot start here.

    Ray replaces the signal handlers when it starts. `started` is called then, to set ours again.
    """
    from rfray.engine.keeper import Requests
    from rfray.engine.ray_executor import RayExecutor
    from rfray.engine.ray_start import start_ray

    start_ray(address)
    started()
    requests = Requests(plan.study.name) if joins_cluster(address) else None
    return RayExecutor(plan.study.name, tune, requests)


def _in_process_executor(plan: Plan, tune: Path, started: Callable[[], None]) -> InProcessExecutor:
    """`started` is not called: Python's own Control-C interrupts the job itself."""
    from rfray.engine.executor import InProcessExecutor

    del plan, tune, started
    return InProcessExecutor()
