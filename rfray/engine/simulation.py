"""A simulated schedule of a plan on a number of slots. Pure."""

import heapq
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from rfray.engine.frontier import Frontier
from rfray.engine.places import Occupancy
from rfray.plan import Node, Plan


@dataclass(frozen=True)
class Schedule:
    """The result of a simulated sweep.

    Attributes:
        slots: Number of GPUs, or of CPU cores if there is no GPU.
        makespan: Seconds from the first start to the last end.
        busy: Slot-seconds in which a node ran; shares of a GPU count as shares.
    """

    slots: float
    makespan: float
    busy: float

    @property
    def utilisation(self) -> float:
        """The share of all slots' time in which they were used; 1 if there is nothing to do."""
        return self.busy / (self.slots * self.makespan) if self.makespan else 1.0

    @property
    def slot_hours(self) -> float:
        """Hours of all slots until the last run has ended, used or not."""
        return self.slots * self.makespan / 3600


def simulate(
    plan: Plan,
    done: Collection[str],
    machines: Mapping[str, Occupancy],
    demand: Callable[[Node], Occupancy],
    seconds: Callable[[Node], float],
) -> Schedule:
    """Simulate a plan with the driver's own frontier.

    Args:
        plan: The plan.
        done: Keys of its finished nodes.
        machines: What each machine offers, by name.
        demand: What a node occupies; no node may need more than a machine offers.
        seconds: How long a node takes.
    """
    frontier = Frontier(plan, done, machines)
    capacity = frontier.places.total
    running: list[tuple[float, int, str]] = []
    now = busy = 0.0
    started = 0
    while not frontier.finished:
        for node in frontier.start(demand):
            need, takes = demand(node), seconds(node)
            busy += _slots(need, capacity) * takes
            heapq.heappush(running, (now + takes, started, node.key))
            started += 1
        if not running:
            raise ValueError("a node needs more than any machine has")
        now, _, key = heapq.heappop(running)
        frontier.end(key, well=True)
    return Schedule(_slots(capacity, capacity), now, busy)


def _slots(part: Occupancy, capacity: Occupancy) -> float:
    return part.gpus if capacity.gpus > 0 else part.cpus
