"""What a sweep runs on: Ray, or this very process."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rfray.engine.assemble import demands
from rfray.engine.cluster_address import chosen_address
from rfray.engine.machine import GIB, Machine
from rfray.errors import UserError
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
        UserError: There is no way into the cluster, Ray cannot start here, or a stage fits none of
            its machines.
    """
    from rfray.engine.ray_executor import RayExecutor, machines
    from rfray.engine.ray_start import start_ray

    start_ray(address)
    started()
    refuse_what_never_fits(plan, machines())
    return RayExecutor(plan.study.name, tune)


def joins_cluster(address: str | None) -> bool:
    """Whether a sweep would run on a cluster that is there, rather than on this machine."""
    return chosen_address(address, os.environ) is not None


def in_process(plan: Plan) -> InProcessExecutor:
    """The executor that runs one job after the other in this process; UserError if one needs more.

    A breakpoint in a stage stops at the terminal that the sweep was started from.
    """
    import psutil

    from rfray.engine.executor import InProcessExecutor

    executor = InProcessExecutor()
    here = Machine(executor.capacity, psutil.virtual_memory().total)
    refuse_what_never_fits(plan, [here])
    return executor


def refuse_what_never_fits(plan: Plan, machines: Sequence[Machine]) -> None:
    """UserError if a stage asks for more than any one of the machines offers."""
    gpus = any(machine.occupancy.gpus > 0 for machine in machines)
    for stage, need in demands(plan, gpus=gpus).items():
        memory = plan.study.request(stage).memory or 0
        if not any(m.occupancy.holds(need) and m.memory >= memory for m in machines):
            wanted = f"{need.cpus:g} CPUs and {need.gpus:g} GPUs"
            wanted += f" with {memory / GIB:.1f} GiB of memory" if memory else ""
            there = ", ".join(sorted({str(machine) for machine in machines})) or "no machine"
            raise UserError(
                f"asks for {wanted} on one machine, but there is only {there}",
                where=f"resources.{stage}",
                do="ask for less",
            )
