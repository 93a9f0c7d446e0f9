"""Which node may run next: the plan's graph as it is worked off. Pure: no Ray, no clock."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from enum import Enum

from rfray.plan import Node, Plan


class State(Enum):
    """Where a node stands."""

    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    SKIPPED = "skipped"


TRAIN = "train"
"""The stage whose nodes are the study's training cells."""

_Entry = tuple[float, int, str]
"""Minus the rank, the place in the plan, the key: what the ready nodes are ordered by."""


@dataclass(frozen=True)
class Occupancy:
    """Processor cores and GPUs, taken or free; shares of a GPU count."""

    cpus: float
    gpus: float

    def __sub__(self, other: Occupancy) -> Occupancy:
        return Occupancy(self.cpus - other.cpus, self.gpus - other.gpus)

    def __add__(self, other: Occupancy) -> Occupancy:
        return Occupancy(self.cpus + other.cpus, self.gpus + other.gpus)

    def holds(self, other: Occupancy) -> bool:
        """Whether `other` fits into this; sums of shares of a GPU are allowed their rounding."""
        slack = 1e-6
        pairs = ((other.cpus, self.cpus), (other.gpus, self.gpus))
        return all(need <= there + slack for need, there in pairs if need > 0)


class Frontier:
    """The nodes that can start, the heaviest remaining chain first, as others finish.

    A node's rank is the work of the longest chain that begins with it (the upward rank of list
    scheduling, Topcuoglu, Hariri & Wu 2002): cells with small kernels, whose maps are largest,
    come first, and a hessian that nothing waits for does not hold up a network that much waits for.

    While training cells remain, one of them is always running: the stages that fill the slots come
    out of them, and a trial's process that is never idle is never started anew.
    """

    def __init__(self, plan: Plan, done: Collection[str], capacity: Occupancy) -> None:
        self.plan = plan
        self.free = capacity
        self.states = dict.fromkeys(plan.nodes, State.WAITING)
        self._dependents = plan.dependents()
        self._missing = {key: set(node.inputs) for key, node in plan.nodes.items()}
        self._ranks = upward_ranks(plan)
        self._ready: list[_Entry] = []
        self._training = 0
        self._order = {key: place for place, key in enumerate(plan.nodes)}
        self._open = len(plan.nodes)
        for key in plan.nodes:
            self._missing[key] -= {needed for needed in self._missing[key] if needed in done}
            if key in done:
                self._close(key, State.DONE)
            self._offer(key)

    @property
    def finished(self) -> bool:
        """Whether nothing runs and nothing more can."""
        return self._open == 0

    def counts(self) -> dict[str, Counter[State]]:
        """How many nodes of each stage stand where."""
        counts: dict[str, Counter[State]] = {}
        for key, node in self.plan.nodes.items():
            counts.setdefault(node.stage, Counter())[self.states[key]] += 1
        return counts

    def upcoming(self, count: int) -> list[Node]:
        """The heaviest nodes that are ready and have not started, at most so many."""
        return [self.plan.nodes[key] for _, _, key in heapq.nsmallest(count, self._ready)]

    def start(
        self,
        demand: Callable[[Node], Occupancy],
        may_start: Callable[[Node], bool] = lambda _: True,
    ) -> Iterator[Node]:
        """Nodes that fit into what is free, heaviest chain first; each counts as running at once.

        The first one that does not fit keeps what it lacks reserved: a lighter node must not take
        it away again and again. One that may not start, though it would fit, is passed over.
        """
        held: list[_Entry] = []
        open_to = self.free
        while self._ready and open_to.cpus > 0:
            entry = self._next()
            node = self.plan.nodes[entry[2]]
            if not may_start(node):
                held.append(entry)
                continue
            need = demand(node)
            if not open_to.holds(need):
                held.append(entry)
                open_to -= need
                continue
            self.states[node.key] = State.RUNNING
            self._training += node.stage == TRAIN
            self.free -= need
            open_to -= need
            yield node
        for entry in held:
            heapq.heappush(self._ready, entry)

    def end(self, key: str, released: Occupancy, *, well: bool) -> list[str]:
        """Record a running node's end; keys of the nodes that are skipped because it failed."""
        self.free += released
        self._training -= self.plan.nodes[key].stage == TRAIN
        if well:
            self._close(key, State.DONE)
            for reader in self._dependents[key]:
                self._missing[reader].discard(key)
                self._offer(reader)
            return []
        self._close(key, State.FAILED)
        return self._skip_dependents(key)

    def _close(self, key: str, state: State) -> None:
        self.states[key] = state
        self._open -= 1

    def _next(self) -> _Entry:
        """Take the heaviest ready node, or the heaviest training cell where none is running."""
        if self._training == 0:
            cells = [entry for entry in self._ready if self.plan.nodes[entry[2]].stage == TRAIN]
            if cells:
                chosen = min(cells)
                self._ready.remove(chosen)
                heapq.heapify(self._ready)
                return chosen
        return heapq.heappop(self._ready)

    def _offer(self, key: str) -> None:
        if not self._missing[key] and self.states[key] is State.WAITING:
            heapq.heappush(self._ready, (-self._ranks[key], self._order[key], key))

    def _skip_dependents(self, key: str) -> list[str]:
        skipped = []
        pending = [key]
        while pending:
            for reader in self._dependents[pending.pop()]:
                if self.states[reader] is State.WAITING:
                    self._close(reader, State.SKIPPED)
                    skipped.append(reader)
                    pending.append(reader)
        return skipped


def upward_ranks(plan: Plan) -> dict[str, float]:
    """Work of the longest chain that begins with each node, in multiply-accumulate operations."""
    dependents = plan.dependents()
    ranks: dict[str, float] = {}
    for key in reversed(list(plan.nodes)):
        behind = max((ranks[reader] for reader in dependents[key]), default=0.0)
        ranks[key] = plan.nodes[key].work + behind
    return ranks
