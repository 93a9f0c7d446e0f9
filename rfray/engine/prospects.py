"""Which machines a cluster could start, from the configuration of its autoscaler. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rfray.engine.machine import Machine
from rfray.engine.places import Occupancy, Places

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
        which kind it starts; here the smallest kind that holds a bundle counts.
        """
        room = Places({"head": self.head.occupancy})
        started: dict[str, int] = {}
        granted = []
        for bundle in bundles:
            need = occupancy_of(bundle)
            place = room.fit(need) or self._one_more(room, started, bundle)
            if place is not None:
                room.take(place, need)
                granted.append(bundle)
        return granted

    def _one_more(self, room: Places, started: dict[str, int], bundle: Bundle) -> str | None:
        """Add the smallest machine that holds the bundle; None if none may be started."""
        if sum(started.values()) >= self.most:
            return None
        need, memory = occupancy_of(bundle), bundle.get("memory", 0.0)
        able = [
            kind
            for kind in self.kinds
            if started.get(kind.name, 0) < kind.most and kind.machine.holds(need, memory)
        ]
        if not able:
            return None
        kind = min(able, key=lambda kind: kind.machine.occupancy.size)
        started[kind.name] = started.get(kind.name, 0) + 1
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
            kinds.append(MachineKind(name, _machine(resources), most))
    most = int(configuration.get("max_workers", sum(kind.most for kind in kinds)))
    return Prospects(tuple(kinds), most, _machine(types.get(head, {}).get("resources", {})), untold)


def occupancy_of(bundle: Bundle) -> Occupancy:
    """The cores and GPUs of a bundle."""
    return Occupancy(bundle.get("CPU", 0.0), bundle.get("GPU", 0.0))


def _machine(resources: Mapping[str, Any]) -> Machine:
    occupancy = Occupancy(float(resources.get("CPU", 0)), float(resources.get("GPU", 0)))
    return Machine(occupancy, float(resources.get("memory", math.inf)))
