"""Room on machines: what fits on one of them, not into their sum. Pure: no Ray, no clock.

Many machines are alike, so they are kept by what they offer and what of it is free: a look costs as
much as there are differences among them, not as there are machines.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

_SLACK = 1e-6


@dataclass(frozen=True)
class Occupancy:
    """Processor cores and GPUs, taken or free; shares of a GPU count."""

    cpus: float
    gpus: float

    def __sub__(self, other: Occupancy) -> Occupancy:
        return Occupancy(self.cpus - other.cpus, self.gpus - other.gpus)

    def __add__(self, other: Occupancy) -> Occupancy:
        return Occupancy(self.cpus + other.cpus, self.gpus + other.gpus)

    @property
    def size(self) -> tuple[float, float]:
        """GPUs, then cores: by which the smaller of two is found."""
        return self.gpus, self.cpus

    def holds(self, other: Occupancy) -> bool:
        """Whether `other` fits into this; sums of shares of a GPU are allowed their rounding."""
        return (other.cpus <= 0 or other.cpus <= self.cpus + _SLACK) and (
            other.gpus <= 0 or other.gpus <= self.gpus + _SLACK
        )

    def lacks(self, other: Occupancy) -> tuple[float, float]:
        """GPUs, then cores, that are missing for `other`."""
        return max(0.0, other.gpus - self.gpus), max(0.0, other.cpus - self.cpus)


_Kind = tuple[Occupancy, Occupancy]
"""What a machine offers, and what of it is free."""


class Places:
    """Machines by name, and what is free on each.

    Args:
        machines: What each offers.
    """

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
        """What is free on all of them together."""
        return self._sum(1)

    def fit(self, need: Occupancy) -> str | None:
        """The machine where `need` leaves the least over, GPUs before cores; None if nowhere.

        So work without a GPU goes where there are none, and large room is kept for large needs:
        as Ray places a trial.
        """
        fitting = [kind for kind in self._alike if kind[1].holds(need)]
        if not fitting:
            return None
        tightest = min(fitting, key=lambda kind: (kind[1].size, kind[0].size))
        return min(self._alike[tightest])

    def nearest(self, need: Occupancy) -> str | None:
        """The machine that could hold `need` and lacks least for it; None if none ever could."""
        able = [kind for kind in self._alike if kind[0].holds(need)]
        if not able:
            return None
        nearest = min(able, key=lambda kind: (kind[1].lacks(need), kind[0].size, kind[1].size))
        return min(self._alike[nearest])

    def take(self, name: str, need: Occupancy) -> None:
        """Count `need` as taken on a machine."""
        total, free = self._forget(name)
        self._put(name, (total, free - need))

    def give(self, name: str, need: Occupancy) -> None:
        """Count what was taken on a machine as free again; one that has left is forgotten."""
        if name in self._kind_of:
            total, free = self._forget(name)
            self._put(name, (total, free + need))

    def follow(self, machines: Mapping[str, Occupancy]) -> list[str]:
        """Use what has joined, and forget what has left: the names of those that have left."""
        left = [name for name in self._kind_of if name not in machines]
        for name in left:
            self._forget(name)
        for name, total in machines.items():
            if name not in self._kind_of:
                self.add(name, total)
        return left

    def add(self, name: str, total: Occupancy) -> str:
        """Count a machine on which nothing is taken; its name."""
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
