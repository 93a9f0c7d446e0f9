"""How many slots would finish a plan sooner. Pure: no Ray, no clock.

A plan cannot end before its longest chain. The useful number of slots is the work that is left
divided by the longest chain: with more slots, some are idle. (There the two lower bounds of list
scheduling are equal, Graham 1969.) More slots than running and ready nodes are of no use either.
"""

import math
from collections.abc import Iterator, Mapping

from rfray.device.hardware import speedup
from rfray.engine.frontier import Frontier, State, upward_ranks
from rfray.engine.places import Occupancy
from rfray.plan import Node, Plan

_LEAST_SHARE = 0.25
"""The least share of a slot that a stage counts as, which limits the number of requests."""


class Outlook:
    """The work of a plan that is left, and how many slots it can use.

    Attributes:
        demands: What a node of each stage occupies.
        gpus: Whether a slot is a GPU; otherwise it is a CPU core.
    """

    def __init__(
        self, plan: Plan, left: Iterator[Node], demands: Mapping[str, Occupancy], *, gpus: bool
    ) -> None:
        self.demands = demands
        self.gpus = gpus
        self._shares = {
            stage: (need.gpus if gpus else need.cpus) for stage, need in demands.items()
        }
        self._chains = upward_ranks(plan, self._seconds)
        self._work = sum(self._slot_seconds(node) for node in left)
        self._most: int | None = None

    def ended(self, node: Node) -> None:
        """Count a node that has ended or will never run: it is not left any more."""
        self._work -= self._slot_seconds(node)

    def useful_slots(self, frontier: Frontier) -> int:
        """The number of slots that the plan can use; at least 1 while something is left.

        Never more than at the first call: many short runs at the very end are no reason to start
        new machines.
        """
        heads = [*frontier.running(), *frontier.heaviest()]
        chain = max((self._chains[node.key] for node in heads), default=0.0)
        if not heads:
            return 0
        # Minus a thousandth: rounding errors must not add a slot.
        now = max(1, math.ceil(self._work / chain - 1e-3)) if chain > 0 else 1
        self._most = now if self._most is None else self._most
        return min(now, self._most)

    def bundles(self, frontier: Frontier) -> list[tuple[str, Occupancy]]:
        """(stage, need) of running nodes and of the heaviest ready ones, up to the useful slots."""
        slots = self.useful_slots(frontier)
        running = sorted(frontier.running(), key=lambda node: -self._chains[node.key])
        most = math.ceil(slots / _LEAST_SHARE)
        asked: list[tuple[str, Occupancy]] = []
        taken = 0.0
        for node in [*running[:most], *frontier.upcoming(most)]:
            share = max(self._shares[node.stage], _LEAST_SHARE)
            if asked and taken + share > slots + 1e-6:
                break
            asked.append((node.stage, self.demands[node.stage]))
            taken += share
        return asked

    def _seconds(self, node: Node) -> float:
        """Time of a node in arbitrary units; longer with a smaller share of a slot."""
        return node.work / max(speedup(self._shares[node.stage]), _LEAST_SHARE)

    def _slot_seconds(self, node: Node) -> float:
        return self._seconds(node) * self._shares[node.stage]


def left_of(frontier: Frontier) -> Iterator[Node]:
    """The nodes of a frontier that run or wait."""
    nodes, states = frontier.plan.nodes, frontier.states
    return (nodes[key] for key, state in states.items() if state in (State.WAITING, State.RUNNING))
