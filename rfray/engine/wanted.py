"""How much room would finish a plan sooner. Pure: no Ray, no clock.

No number of slots finishes a plan before its longest chain ends, and work that is spread evenly
over so many that all of it ends then has no use for more. So the useful number is all the work that
is left, divided by the longest chain of it: beyond that, slots stand idle (the two lower bounds of
list scheduling, Graham 1969, meet there). Nor is there a use for more than what runs or is ready.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

from rfray.device.hardware import speedup
from rfray.engine.frontier import Frontier, State, upward_ranks
from rfray.engine.places import Occupancy
from rfray.plan import Node, Plan

_LEAST_SHARE = 0.25
"""Of a slot, that a stage counts as where it takes less: so that none is asked for without end."""


class Outlook:
    """What of a plan is left, and how much room is of use to it.

    Args:
        plan: The plan.
        left: The nodes that are not done.
        demands: What a node of each stage occupies.
        gpus: Whether a slot is a GPU; otherwise it is a processor core.
    """

    def __init__(
        self, plan: Plan, left: Iterator[Node], demands: Mapping[str, Occupancy], *, gpus: bool
    ) -> None:
        self._demands = demands
        self._shares = {
            stage: (need.gpus if gpus else need.cpus) for stage, need in demands.items()
        }
        self._chains = upward_ranks(plan, self._seconds)
        self._work = sum(self._slot_seconds(node) for node in left)
        self._most: int | None = None

    def ended(self, node: Node) -> None:
        """Count a node that has ended, well or not, or will never run: it is left no more."""
        self._work -= self._slot_seconds(node)

    def useful_slots(self, frontier: Frontier) -> int:
        """Slots beyond which nothing finishes sooner; at least 1 while something is left.

        Never more than at the first asking: many short runs side by side at the very end are no
        reason to start machines that took no part in what came before.
        """
        heads = [*frontier.running(), *frontier.heaviest()]
        chain = max((self._chains[node.key] for node in heads), default=0.0)
        if not heads:
            return 0
        # All but a thousandth: sums of products are not exact, and a whole machine costs more.
        now = max(1, math.ceil(self._work / chain - 1e-3)) if chain > 0 else 1
        self._most = now if self._most is None else self._most
        return min(now, self._most)

    def bundles(self, frontier: Frontier) -> list[tuple[str, Occupancy]]:
        """The stage and the needs of what runs and of the heaviest that is ready, up to that."""
        slots = self.useful_slots(frontier)
        running = sorted(frontier.running(), key=lambda node: -self._chains[node.key])
        most = math.ceil(slots / _LEAST_SHARE)
        asked: list[tuple[str, Occupancy]] = []
        taken = 0.0
        for node in [*running[:most], *frontier.upcoming(most)]:
            share = max(self._shares[node.stage], _LEAST_SHARE)
            if asked and taken + share > slots + 1e-6:
                break
            asked.append((node.stage, self._demands[node.stage]))
            taken += share
        return asked

    def _seconds(self, node: Node) -> float:
        """How long a node takes, in some unit: as long as its share of a slot is small."""
        return node.work / max(speedup(self._shares[node.stage]), _LEAST_SHARE)

    def _slot_seconds(self, node: Node) -> float:
        return self._seconds(node) * self._shares[node.stage]


def left_of(frontier: Frontier) -> Iterator[Node]:
    """The nodes of a frontier that run or wait."""
    nodes, states = frontier.plan.nodes, frontier.states
    return (nodes[key] for key, state in states.items() if state in (State.WAITING, State.RUNNING))
