"""Which node runs next: the states of all nodes of a plan. Pure: no Ray, no clock."""

import heapq
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from operator import attrgetter

from rfray.engine.places import Occupancy, Places
from rfray.plan import Node, Plan
from rfray.study.naming import TRAIN


class State(Enum):
    """The state of a node."""

    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    SKIPPED = "skipped"


_Entry = tuple[float, int, str]
"""Minus the rank, the place in the plan, the key: the order of ready nodes."""


@dataclass(frozen=True)
class _Held:
    """What a running node occupies, and on which machine; None if that machine was lost."""

    place: str | None
    need: Occupancy


class Frontier:
    """The states of a plan's nodes, and which of them start next.

    A node's rank is the work of the longest chain that begins with it (the upward rank of list
    scheduling, Topcuoglu, Hariri & Wu 2002). Nodes with the highest rank start first: cells with
    small kernels, whose maps are largest, come first, and a hessian that no node reads comes after
    a network that many nodes read.

    While training cells remain, one of them is always running: the other stages depend on them, and
    a trial's process that is never idle never has to be started again.

    A node runs on one machine, so it starts only if one machine has room for all that it needs.

    Ready nodes are in one heap per stage, because all nodes of a stage demand the same. So the cost
    of a step does not depend on how many nodes wait.

    Args:
        done: Keys of its finished nodes.
        machines: What each machine offers, by name.

    Attributes:
        places: The machines, and what is free on each.
        states: The state of each node, by key.
        unheld: The needs that no machine could hold at the last start, by stage.
    """

    def __init__(
        self, plan: Plan, done: Collection[str], machines: Mapping[str, Occupancy]
    ) -> None:
        self.plan = plan
        self.places = Places(machines)
        self._held: dict[str, _Held] = {}
        self._displaced: dict[str, None] = {}
        self.unheld: dict[str, Occupancy] = {}
        self.states = dict.fromkeys(plan.nodes, State.WAITING)
        self._counts: dict[str, Counter[State]] = {}
        for node in plan.nodes.values():
            self._counts.setdefault(node.stage, Counter())[State.WAITING] += 1
        self._dependents = plan.dependents()
        self._missing = {
            key: {needed for needed in node.inputs if needed not in done}
            for key, node in plan.nodes.items()
        }
        self._ranks = upward_ranks(plan)
        self._ready: dict[str, list[_Entry]] = {stage: [] for stage in self._counts}
        self._order = {key: place for place, key in enumerate(plan.nodes)}
        for key in plan.nodes:
            if key in done:
                self._move(key, State.DONE)
            self._offer(key)

    @property
    def finished(self) -> bool:
        """Whether no node runs and no node can start."""
        return not any(c[State.WAITING] or c[State.RUNNING] for c in self._counts.values())

    def counts(self) -> Mapping[str, Counter[State]]:
        """The number of nodes in each state, by stage."""
        return self._counts

    def upcoming(self, count: int) -> list[Node]:
        """The heaviest nodes that are ready and have not started, at most `count`."""
        heads = (entry for heap in self._ready.values() for entry in self._smallest(heap, count))
        return [self.plan.nodes[key] for _, _, key in heapq.nsmallest(count, heads)]

    def running(self) -> list[Node]:
        """The nodes that run."""
        return [self.plan.nodes[key] for key in self._held]

    def heaviest(self) -> list[Node]:
        """The heaviest ready node of each stage."""
        for heap in self._ready.values():
            self._drop_started(heap)
        return [self.plan.nodes[heap[0][2]] for heap in self._ready.values() if heap]

    def place_of(self, key: str) -> str | None:
        """The machine that a running node is meant for."""
        return self._held[key].place

    def follow(self, machines: Mapping[str, Occupancy]) -> None:
        """Use machines that have joined, and forget those that have left.

        Ray starts the jobs of a machine that has left again on other machines. They get room there
        before any other node does.
        """
        left = set(self.places.follow(machines))
        if not left:
            return
        for key, held in self._held.items():
            if held.place in left:
                self._held[key] = _Held(None, held.need)
                self._displaced[key] = None

    def start(
        self, demand: Callable[[Node], Occupancy], among: Collection[str] | None = None
    ) -> Iterator[Node]:
        """The nodes that fit into the free room, heaviest chain first; each one becomes running.

        The first node of a stage that does not fit reserves the machine that lacks least for it.
        Otherwise lighter nodes would take its room again and again. A node that no machine could
        hold reserves nothing and waits for such a machine.

        Args:
            demand: What a node occupies, the same for all nodes of a stage.
            among: Keys of the nodes that may start; None for all.
        """
        reserved: list[tuple[str, Occupancy]] = []
        self.unheld = {}
        try:
            self._place_displaced(reserved)
            waiting = self._heaps(among)
            while (stage := self._next(waiting)) is not None:
                node = self.plan.nodes[waiting[stage][0][2]]
                need = demand(node)
                place = self.places.fit(need)
                if place is None:
                    # No other node of this stage fits: they demand the same.
                    self._reserve(stage, need, reserved)
                    del waiting[stage]
                    continue
                heapq.heappop(waiting[stage])
                self._move(node.key, State.RUNNING)
                self._hold(node.key, place, need)
                yield node
        finally:
            for place, need in reserved:
                self.places.give(place, need)

    def end(self, key: str, *, well: bool) -> list[str]:
        """Record the end of a running node; keys of the nodes that are skipped if it failed."""
        self._release(key)
        if well:
            self._move(key, State.DONE)
            for reader in self._dependents[key]:
                self._missing[reader].discard(key)
                self._offer(reader)
            return []
        self._move(key, State.FAILED)
        return self._skip_dependents(key)

    def again(self, key: str) -> None:
        """Have a running node wait again, to be started with another grant."""
        self._release(key)
        self._move(key, State.WAITING)
        self._offer(key)

    def withdraw(self, keys: Iterable[str]) -> list[str]:
        """Skip waiting nodes and all nodes that depend on them; keys of all skipped nodes."""
        skipped = []
        for key in keys:
            if self.states[key] is State.WAITING:
                self._move(key, State.SKIPPED)
                skipped += [key, *self._skip_dependents(key)]
        return skipped

    def _release(self, key: str) -> None:
        held = self._held.pop(key)
        self._displaced.pop(key, None)
        if held.place is not None:
            self.places.give(held.place, held.need)

    def _hold(self, key: str, place: str, need: Occupancy) -> None:
        self.places.take(place, need)
        self._held[key] = _Held(place, need)

    def _place_displaced(self, reserved: list[tuple[str, Occupancy]]) -> None:
        """Give nodes that have lost their machine room on another one, or reserve it."""
        for key in list(self._displaced):
            need = self._held[key].need
            place = self.places.fit(need)
            if place is None:
                self._reserve(self.plan.nodes[key].stage, need, reserved)
                continue
            del self._displaced[key]
            self._hold(key, place, need)

    def _reserve(self, stage: str, need: Occupancy, reserved: list[tuple[str, Occupancy]]) -> None:
        place = self.places.nearest(need)
        if place is None:
            self.unheld[stage] = need
            return
        self.places.take(place, need)
        reserved.append((place, need))

    def _move(self, key: str, state: State) -> None:
        counts = self._counts[self.plan.nodes[key].stage]
        counts[self.states[key]] -= 1
        counts[state] += 1
        self.states[key] = state

    def _heaps(self, among: Collection[str] | None) -> dict[str, list[_Entry]]:
        """The heaps to choose from, by stage; for `among`, new heaps of these nodes."""
        if among is None:
            return dict(self._ready)
        chosen: dict[str, list[_Entry]] = {}
        for key in among:
            if not self._missing[key] and self.states[key] is State.WAITING:
                heapq.heappush(chosen.setdefault(self.plan.nodes[key].stage, []), self._entry(key))
        return chosen

    def _next(self, heaps: Mapping[str, list[_Entry]]) -> str | None:
        """The stage of the heaviest node, or train if no training runs and one may start."""
        for heap in heaps.values():
            self._drop_started(heap)
        training = self._counts.get(TRAIN, Counter())[State.RUNNING]
        if not training and heaps.get(TRAIN):
            return TRAIN
        return min((stage for stage, heap in heaps.items() if heap), default=None,
                   key=lambda stage: heaps[stage][0])  # fmt: skip

    def _drop_started(self, heap: list[_Entry]) -> None:
        """Remove nodes from the top of a heap that do not wait any more."""
        while heap and self.states[heap[0][2]] is not State.WAITING:
            heapq.heappop(heap)

    def _smallest(self, heap: list[_Entry], count: int) -> Iterator[_Entry]:
        """The heaviest waiting nodes of a heap, without reading the whole heap."""
        places = [(heap[0], 0)] if heap else []
        while places and count > 0:
            entry, place = heapq.heappop(places)
            if self.states[entry[2]] is State.WAITING:
                yield entry
                count -= 1
            for child in (2 * place + 1, 2 * place + 2):
                if child < len(heap):
                    heapq.heappush(places, (heap[child], child))

    def _offer(self, key: str) -> None:
        if not self._missing[key] and self.states[key] is State.WAITING:
            heapq.heappush(self._ready[self.plan.nodes[key].stage], self._entry(key))

    def _entry(self, key: str) -> _Entry:
        return (-self._ranks[key], self._order[key], key)

    def _skip_dependents(self, key: str) -> list[str]:
        skipped = []
        pending = [key]
        while pending:
            for reader in self._dependents[pending.pop()]:
                if self.states[reader] is State.WAITING:
                    self._move(reader, State.SKIPPED)
                    skipped.append(reader)
                    pending.append(reader)
        return skipped


def upward_ranks(
    plan: Plan, cost: Callable[[Node], float] = attrgetter("work")
) -> dict[str, float]:
    """Cost of the longest chain that begins with each node; by default in operations."""
    dependents = plan.dependents()
    ranks: dict[str, float] = {}
    for key in reversed(list(plan.nodes)):
        after = max((ranks[reader] for reader in dependents[key]), default=0.0)
        ranks[key] = cost(plan.nodes[key]) + after
    return ranks
