"""What a sweep runs on: Ray, or this very process."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rfray.data.readable import refuse_unreadable
from rfray.engine.cluster_address import chosen_address
from rfray.plan import Plan

if TYPE_CHECKING:
    from rfray.engine.executor import Executor, InProcessExecutor
    from rfray.engine.ray_executor import RayExecutor


@dataclass(frozen=True)
class Workers:
    """What runs the stages of a sweep.

    Attributes:
        executor: Joins or starts it for a plan; called once something is to be run. Its other
            arguments: a folder for Tune's own records, and what to call as soon as it has started.
        check_data: Called before that with the names of the data sets that are to be read; raises
            UserError if one cannot be.
        leaves_the_terminal: Whether the terminal is free for a live table meanwhile.
    """

    executor: Callable[[Plan, Path, Callable[[], None]], Executor]
    check_data: Callable[[Iterable[str]], None]
    leaves_the_terminal: bool


def on_ray(address: str | None) -> Workers:
    """Ray: the cluster of an address; without one that of RAY_ADDRESS, or one started here."""

    def executor(plan: Plan, tune: Path, started: Callable[[], None]) -> RayExecutor:
        return _ray_executor(plan, tune, address, started)

    # A cluster's workers hold the data, the machine that drives them may not.
    check = _nothing_to_check if joins_cluster(address) else refuse_unreadable
    return Workers(executor, check, leaves_the_terminal=True)


def in_process() -> Workers:
    """This process, one job after the other.

    A breakpoint in a stage stops at the terminal that the sweep was started from.
    """
    return Workers(_in_process_executor, refuse_unreadable, leaves_the_terminal=False)


def joins_cluster(address: str | None) -> bool:
    """Whether a sweep would run on a cluster that is there, rather than on this machine."""
    return chosen_address(address, os.environ) is not None


def _ray_executor(
    plan: Plan, tune: Path, address: str | None, started: Callable[[], None]
) -> RayExecutor:
    """Join or start Ray; UserError if there is no way into the cluster, or it cannot start here.

    It takes the signals for itself as it starts, which is why it is told at once that it has.
    """
    from rfray.engine.keeper import Requests
    from rfray.engine.ray_executor import RayExecutor
    from rfray.engine.ray_start import start_ray

    start_ray(address)
    started()
    requests = Requests(plan.study.name) if joins_cluster(address) else None
    return RayExecutor(plan.study.name, tune, requests)


def _in_process_executor(plan: Plan, tune: Path, started: Callable[[], None]) -> InProcessExecutor:
    """Control-C stays Python's own: it interrupts the job itself."""
    from rfray.engine.executor import InProcessExecutor

    del plan, tune, started
    return InProcessExecutor()


def _nothing_to_check(names: Iterable[str]) -> None:
    """Of data that lies on other machines."""
    del names
