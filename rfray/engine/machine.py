"""The resources of one machine."""

from __future__ import annotations

from dataclasses import dataclass

from rfray.engine.places import Occupancy

GIB = 2**30


@dataclass(frozen=True)
class Machine:
    """The resources of one machine of the cluster; memory in bytes."""

    occupancy: Occupancy
    memory: float

    def __str__(self) -> str:
        offered = self.occupancy
        return f"{offered.cpus:g} CPUs, {offered.gpus:g} GPUs and {self.memory / GIB:.1f} GiB"

    def holds(self, need: Occupancy, memory: float) -> bool:
        """Whether a job with this need, and this memory in bytes, fits on the empty machine."""
        return self.occupancy.holds(need) and self.memory >= memory
