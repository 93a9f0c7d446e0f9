"""Which machines sweeps want from an autoscaler, and which it could start. Pure."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rfray.engine.places import Machine, Occupancy, Places

SECONDS_BETWEEN = 10.0
"""A sweep repeats its request after this time."""

SECONDS_KEPT = 60.0
"""A sweep that is silent for this time counts as dead, and its request is dropped."""

Bundle = Mapping[str, float]
"""Resources on one machine as Ray names them, such as CPU, and how much of each."""


@dataclass(frozen=True)
class MachineKind:
    """A kind of machine that the autoscaler may start, and the largest number of them."""

    name: str
    machine: Machine
    most: int


@dataclass(frozen=True)
class Prospects:
    """What an autoscaler may start.

    Attributes:
        kinds: The kinds whose resources are in its configuration.
        most: The largest number of machines of all kinds together.
        head: The resources of the head, which is running already.
        untold: Whether it may start machines whose resources are not in the configuration.
    """

    kinds: tuple[MachineKind, ...]
    most: int
    head: Machine
    untold: bool = False

    def within(self, bundles: Sequence[Bundle]) -> list[Bundle]:
        """The bundles, in their order, that fit into the largest cluster that could be started.

        Ray's autoscaler (v2) starts nothing for a request that does not fit. It decides itself
        which kind it starts; here the smallest kind that holds a bundle counts. If it may start
        machines that are not known, every bundle may fit.
        """
        if self.untold:
            return list(bundles)
        room = Places({"head": self.head.occupancy})
        started: Counter[str] = Counter()
        granted = []
        for bundle in bundles:
            need = occupancy_of(bundle)
            place = room.fit(need) or self._one_more(room, started, bundle)
            if place is not None:
                room.take(place, need)
                granted.append(bundle)
        return granted

    def _one_more(self, room: Places, started: Counter[str], bundle: Bundle) -> str | None:
        """Add the smallest machine that holds the bundle; None if none may be started."""
        if started.total() >= self.most:
            return None
        need, memory = occupancy_of(bundle), bundle.get("memory", 0.0)
        able = [
            kind
            for kind in self.kinds
            if started[kind.name] < kind.most and kind.machine.holds(need, memory)
        ]
        if not able:
            return None
        kind = min(able, key=lambda kind: kind.machine.occupancy.size)
        started[kind.name] += 1
        return room.add(f"{kind.name}-{started[kind.name]}", kind.machine.occupancy)


def read_prospects(configuration: Mapping[str, Any]) -> Prospects:
    """What an autoscaler with this configuration may start.

    Args:
        configuration: As `ray up` writes it to the head (`ray_bootstrap_config.yaml`), or as Ray
            derives it from a RayCluster of KubeRay.
    """
    types = configuration.get("available_node_types", {})
    head = configuration.get("head_node_type")
    kinds, untold = [], False
    for name, description in types.items():
        most = int(description.get("max_workers", 0))
        if most <= 0:
            continue
        resources = description.get("resources") or {}
        if "CPU" not in resources and "GPU" not in resources:
            untold = True
        elif name != head:
            kinds.append(MachineKind(name, machine_of(resources, math.inf), most))
    most = int(configuration.get("max_workers", sum(kind.most for kind in kinds)))
    of_head = machine_of(types.get(head, {}).get("resources", {}), math.inf)
    return Prospects(tuple(kinds), most, of_head, untold)


def occupancy_of(bundle: Bundle) -> Occupancy:
    """The cores and GPUs of a bundle."""
    return Occupancy(float(bundle.get("CPU", 0)), float(bundle.get("GPU", 0)))


def machine_of(resources: Bundle, memory: float) -> Machine:
    """A machine with resources as Ray names them; `memory` in bytes if they do not say it."""
    return Machine(occupancy_of(resources), float(resources.get("memory", memory)))


class Wishes:
    """The bundles that each of several sweeps wants."""

    def __init__(self) -> None:
        self._wishes: dict[str, tuple[Sequence[Bundle], float]] = {}

    def want(self, sweep: str, bundles: Sequence[Bundle], now: float) -> None:
        """Replace the bundles of a sweep; a sweep that wants none is forgotten."""
        if bundles:
            self._wishes[sweep] = (bundles, now)
        else:
            self._wishes.pop(sweep, None)

    def standing(self, now: float) -> list[Bundle]:
        """The bundles of all sweeps; those that were silent for too long are forgotten."""
        self._wishes = {
            sweep: (bundles, heard)
            for sweep, (bundles, heard) in self._wishes.items()
            if now - heard <= SECONDS_KEPT
        }
        return [bundle for bundles, _ in self._wishes.values() for bundle in bundles]
