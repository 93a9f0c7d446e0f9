"""What one machine of the cluster offers."""

from __future__ import annotations

from dataclasses import dataclass

from rfray.engine.places import Occupancy

GIB = 2**30


@dataclass(frozen=True)
class Machine:
    """What one node of the cluster offers; memory in bytes."""

    occupancy: Occupancy
    memory: float

    def __str__(self) -> str:
        offered = self.occupancy
        return f"{offered.cpus:g} CPUs, {offered.gpus:g} GPUs and {self.memory / GIB:.1f} GiB"

    def holds(self, need: Occupancy, memory: float) -> bool:
        """Whether what needs so much, and so many bytes of memory, could run here alone."""
        return self.occupancy.holds(need) and self.memory >= memory
