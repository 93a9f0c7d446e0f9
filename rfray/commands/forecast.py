"""How long a study will take on a number of slots, from the time of its finished runs."""

import math
from collections.abc import Mapping
from typing import Literal

from rfray.device.hardware import device_of, processes_of, speedup
from rfray.engine.assemble import demands
from rfray.engine.places import Occupancy
from rfray.engine.simulation import Schedule, simulate
from rfray.errors import UserError
from rfray.plan import Node, Plan
from rfray.plan.cost import (
    MULTIPLICATIONS_PER_CORE_SECOND,
    MULTIPLICATIONS_PER_GPU_SECOND,
    durations,
)
from rfray.tracking import RunRecord

SlotKind = Literal["gpu", "cpu"]
"""What a slot is: a GPU, with any number of CPU cores, or a CPU core."""


def expected_schedule(
    plan: Plan, finished: Mapping[str, RunRecord], slots: int, kind: SlotKind
) -> tuple[Schedule, str]:
    """The simulated schedule of the missing runs, and in words where its durations come from.

    Args:
        plan: The plan.
        finished: The finished run of each node that has one.
        slots: Number of slots.
        kind: What a slot is. Only finished runs on the same kind are used.

    Raises:
        UserError: A stage asks for more than all slots together.
    """
    on_gpus = kind == "gpu"
    capacity = Occupancy(math.inf, slots) if on_gpus else Occupancy(slots, 0)

    needs = demands(plan, gpus=on_gpus)

    def need(node: Node) -> Occupancy:
        return needs[node.stage]

    def pace(node: Node) -> float:
        if need(node).gpus > 0:
            return MULTIPLICATIONS_PER_GPU_SECOND * min(1.0, need(node).gpus)
        return MULTIPLICATIONS_PER_CORE_SECOND * need(node).cpus

    for stage in {node.stage for node in plan.nodes.values()}:
        if not capacity.holds(needs[stage]):
            raise UserError(
                f"asks for more than the {slots} {kind.upper()}s of the simulation",
                where=f"resources.{stage}",
                do="simulate more --slots, or ask for less",
            )
    # The time on several GPUs is converted to one GPU, because the plan may ask for another number.
    taken = {
        key: float(run.tags["rfray.seconds"]) * speedup(processes_of(_hardware(run)))
        for key, run in finished.items()
        if "rfray.seconds" in run.tags and (device_of(_hardware(run)) == "cpu") == (kind == "cpu")
    }
    alone = durations(plan, taken, pace)

    def seconds(node: Node) -> float:
        return alone(node) / max(1.0, speedup(need(node).gpus))

    schedule = simulate(plan, set(finished), {"all": capacity}, need, seconds)
    runs = "run" if len(taken) == 1 else "runs"
    basis = (
        f"from {len(taken)} finished {runs}"
        if taken
        else f"estimated from operations: nothing has run on a {kind.upper()} yet"
    )
    return schedule, f"{basis}{_assumed(needs)}"


def _assumed(needs: Mapping[str, Occupancy]) -> str:
    """What is assumed about the speed of several GPUs together; empty if no stage has them."""
    several = [(stage, need.gpus) for stage, need in needs.items() if need.gpus > 1]
    if not several:
        return ""
    stage, gpus = several[0]
    return f"; {gpus:g} GPUs are assumed to {stage} {speedup(gpus):.3g} times as fast as one"


def _hardware(run: RunRecord) -> str:
    return run.tags.get("rfray.hardware", "")
