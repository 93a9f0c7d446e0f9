"""Machines, and the free room on each. Pure: no Ray, no clock.

Many machines are equal, so they are grouped by what they offer and what is free. The cost of a
search depends on the number of groups, not on the number of machines.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

GIB = 2**30
_SLACK = 1e-6


@dataclass(frozen=True)
class Occupancy:
    """A number of CPU cores and GPUs, with shares of a GPU."""

    cpus: float
    gpus: float

    def __sub__(self, other: Occupancy) -> Occupancy:
        return Occupancy(self.cpus - other.cpus, self.gpus - other.gpus)

    def __add__(self, other: Occupancy) -> Occupancy:
        return Occupancy(self.cpus + other.cpus, self.gpus + other.gpus)

    @property
    def size(self) -> tuple[float, float]:
        """GPUs, then cores: to compare two occupancies."""
        return self.gpus, self.cpus

    def holds(self, other: Occupancy) -> bool:
        """Whether `other` fits into this, with tolerance for rounding of shares."""
        return (other.cpus <= 0 or other.cpus <= self.cpus + _SLACK) and (
            other.gpus <= 0 or other.gpus <= self.gpus + _SLACK
        )

    def lacks(self, other: Occupancy) -> tuple[float, float]:
        """GPUs, then cores, that are missing for `other`."""
        return max(0.0, other.gpus - self.gpus), max(0.0, other.cpus - self.cpus)


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


_Kind = tuple[Occupancy, Occupancy]
"""What a machine offers, and what is free."""


class Places:
    """Machines by name, what each offers, and what is free on it."""

    def __init__(self, machines: Mapping[str, Occupancy]) -> None:
        self._kind_of: dict[str, _Kind] = {}
        self._alike: dict[_Kind, dict[str, None]] = {}
        self.follow(machines)

    @property
    def total(self) -> Occupancy:
        """What all machines offer together."""
        return self._sum(0)

    @property
    def free(self) -> Occupancy:
        """What is free on all machines together."""
        return self._sum(1)

    def fit(self, need: Occupancy) -> str | None:
        """The machine with the least room that has enough for `need`; None if there is none.

        GPUs count before cores. So jobs without a GPU go to machines without GPUs, and large room
        is kept for large needs, as when Ray places a trial.
        """
        fitting = [kind for kind in self._alike if kind[1].holds(need)]
        if not fitting:
            return None
        tightest = min(fitting, key=lambda kind: (kind[1].size, kind[0].size))
        return min(self._alike[tightest])

    def nearest(self, need: Occupancy) -> str | None:
        """The machine that is large enough for `need` and lacks least; None if none is."""
        able = [kind for kind in self._alike if kind[0].holds(need)]
        if not able:
            return None
        nearest = min(able, key=lambda kind: (kind[1].lacks(need), kind[0].size, kind[1].size))
        return min(self._alike[nearest])

    def take(self, name: str, need: Occupancy) -> None:
        """Take room on a machine."""
        total, free = self._forget(name)
        self._put(name, (total, free - need))

    def give(self, name: str, need: Occupancy) -> None:
        """Free room on a machine; does nothing for a machine that has left."""
        if name in self._kind_of:
            total, free = self._forget(name)
            self._put(name, (total, free + need))

    def follow(self, machines: Mapping[str, Occupancy]) -> list[str]:
        """Add machines that have joined, forget those that have left; names of those that left."""
        left = [name for name in self._kind_of if name not in machines]
        for name in left:
            self._forget(name)
        for name, total in machines.items():
            if name not in self._kind_of:
                self.add(name, total)
        return left

    def add(self, name: str, total: Occupancy) -> str:
        """Add an empty machine; returns its name."""
        self._put(name, (total, total))
        return name

    def _forget(self, name: str) -> _Kind:
        kind = self._kind_of.pop(name)
        alike = self._alike[kind]
        del alike[name]
        if not alike:
            del self._alike[kind]
        return kind

    def _put(self, name: str, kind: _Kind) -> None:
        self._kind_of[name] = kind
        self._alike.setdefault(kind, {})[name] = None

    def _sum(self, which: Literal[0, 1]) -> Occupancy:
        cpus = sum(kind[which].cpus * len(alike) for kind, alike in self._alike.items())
        gpus = sum(kind[which].gpus * len(alike) for kind, alike in self._alike.items())
        return Occupancy(cpus, gpus)
