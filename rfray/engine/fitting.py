"""Whether a study fits a cluster: its machines, and those that could join. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from rfray.engine.assemble import demands
from rfray.engine.machine import GIB, Machine
from rfray.engine.places import Occupancy
from rfray.errors import UserError
from rfray.plan import Plan


def runs_on_gpus(machines: Sequence[Machine]) -> bool | None:
    """Whether a study runs on GPUs with these machines; None if none of them has a CPU or GPU.

    One machine with a GPU is enough: the others run stages that need no GPU.
    """
    if any(machine.occupancy.gpus > 0 for machine in machines):
        return True
    return False if any(machine.occupancy.cpus > 0 for machine in machines) else None


def refuse_what_never_fits(plan: Plan, machines: Sequence[Machine]) -> None:
    """UserError if a stage asks for more than any of the machines has."""
    for stage, need in demands(plan, gpus=bool(runs_on_gpus(machines))).items():
        memory = plan.study.request(stage).memory or 0
        if not any(machine.holds(need, memory) for machine in machines):
            there = ", ".join(sorted({str(machine) for machine in machines})) or "no machine"
            raise UserError(
                f"asks for {described(need, memory)} on one machine, but there is only {there}",
                where=f"resources.{stage}",
                do="ask for less",
            )


def described(need: Occupancy, memory: float) -> str:
    """What a stage asks for, in words; memory in bytes, 0 for none."""
    wanted = f"{need.cpus:g} CPUs and {need.gpus:g} GPUs"
    return wanted + (f" with {memory / GIB:.1f} GiB of memory" if memory else "")
