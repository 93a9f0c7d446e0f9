"""The cluster of a sweep: its machines, those that could join, and the requests for them."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from rfray.engine.assemble import demands
from rfray.engine.executor import Executor
from rfray.engine.fitting import described, refuse_what_never_fits, runs_on_gpus
from rfray.engine.frontier import Frontier
from rfray.engine.machine import Machine
from rfray.engine.places import Occupancy
from rfray.engine.prospects import Bundle, occupancy_of
from rfray.engine.wanted import Outlook, left_of
from rfray.engine.wishes import granted
from rfray.plan import Node, Plan

_ASK_SECONDS = 2.0
_ANY_MACHINE: list[Bundle] = [{"CPU": 1.0}]


@dataclass(frozen=True)
class _Settled:
    """What was decided when the first machines were known.

    It does not change later, because the demand of a node must not change while it waits or runs.
    """

    gpus: bool
    demands: dict[str, Occupancy]
    outlook: Outlook


@dataclass
class _Wait:
    """Since when the sweep waits for a machine."""

    monotonic: float = field(default_factory=time.monotonic)
    clock: str = field(default_factory=lambda: time.strftime("%H:%M:%S"))


class Ground:
    """Follows the cluster for a driver.

    Args:
        plan: What is run.
        executor: Where it runs.
        noted: Called with a sentence on each decision and each request.
    """

    def __init__(self, plan: Plan, executor: Executor, noted: Callable[[str], None]) -> None:
        self._plan = plan
        self._executor = executor
        self._noted = noted
        self._seen = executor.machines
        self._settled: _Settled | None = None
        self._looked = False
        self._wait: _Wait | None = None
        self._asked_at = -_ASK_SECONDS
        self._asked_slots = 0.0

    @property
    def occupancies(self) -> dict[str, Occupancy]:
        """What each machine offers, by name."""
        return {name: machine.occupancy for name, machine in self._seen.items()}

    @property
    def gpus(self) -> bool | None:
        """Whether the study runs on GPUs; None while no machine is known."""
        return self._settled.gpus if self._settled is not None else None

    def follow(self, frontier: Frontier) -> bool:
        """Update the frontier's machines; returns whether nodes may start.

        Raises:
            UserError: A stage fits no machine that is there or could join.
        """
        now = self._executor.machines
        if now is not self._seen:
            self._seen = now
            frontier.follow(self.occupancies)
        if self._settled is None:
            self._settled = self._settle(frontier)
        self._looked = True
        return self._settled is not None

    def demand(self, node: Node) -> Occupancy:
        """What a node occupies; known once nodes may start."""
        if self._settled is None:
            raise RuntimeError("no machine is known yet")
        return self._settled.demands[node.stage]

    def ended(self, node: Node) -> None:
        """Count a node that has ended or will never run."""
        if self._settled is not None:
            self._settled.outlook.ended(node)

    def ask(self, frontier: Frontier) -> None:
        """Ask the cluster for the machines that would finish the study sooner, and no more."""
        prospects = self._executor.prospects
        if prospects is None or time.monotonic() - self._asked_at < _ASK_SECONDS:
            return
        self._asked_at = time.monotonic()
        if self._settled is None:
            self._executor.want(_ANY_MACHINE)
            return
        wanted = self._settled.outlook.bundles(frontier)
        bundles = granted([self._bundle(stage, need) for stage, need in wanted], prospects)
        self._executor.want(bundles)
        self._say_asked(bundles)

    def waiting_words(self, frontier: Frontier) -> str:
        """Which machine the sweep waits for, and since when; empty if for none."""
        wanted = self._missing(frontier)
        if not wanted:
            self._wait = None
            return ""
        self._wait = self._wait or _Wait()
        minutes, seconds = divmod(int(time.monotonic() - self._wait.monotonic), 60)
        return f"waiting for {wanted} since {self._wait.clock} ({minutes}:{seconds:02d} min)"

    def _missing(self, frontier: Frontier) -> str:
        if self._settled is None:
            return "a machine with a CPU or GPU to join the cluster, which has none"
        if not frontier.unheld:
            return ""
        stage, need = next(iter(frontier.unheld.items()))
        memory = self._plan.study.request(stage).memory or 0
        return f"a machine with {described(need, memory)} ({', '.join(frontier.unheld)})"

    def _settle(self, frontier: Frontier) -> _Settled | None:
        prospects = self._executor.prospects
        kinds = prospects.kinds if prospects is not None else ()
        could_be = [*self._seen.values(), *(kind.machine for kind in kinds)]
        gpus = runs_on_gpus(could_be)
        if gpus is None:
            return None
        # If machines join one by one and it is not known which will come, more may fit later.
        if not self._looked and not (prospects is not None and prospects.untold):
            refuse_what_never_fits(self._plan, could_be)
        if self._looked or prospects is not None:
            self._noted(_decision(could_be, gpus=gpus))
        needs = demands(self._plan, gpus=gpus)
        return _Settled(gpus, needs, Outlook(self._plan, left_of(frontier), needs, gpus=gpus))

    def _bundle(self, stage: str, need: Occupancy) -> Bundle:
        memory = self._plan.study.request(stage).memory
        named = {"CPU": need.cpus, "GPU": need.gpus, "memory": float(memory or 0)}
        return {name: amount for name, amount in named.items() if amount > 0}

    def _say_asked(self, bundles: list[Bundle]) -> None:
        needs = [occupancy_of(bundle) for bundle in bundles]
        slots = sum(need.gpus if self.gpus else need.cpus for need in needs)
        if slots != self._asked_slots:
            self._asked_slots = slots
            self._noted(f"asks the cluster for {slots:g} {'GPUs' if self.gpus else 'cores'} in all")


def _decision(could_be: list[Machine], *, gpus: bool) -> str:
    if gpus:
        with_one = sorted({str(m) for m in could_be if m.occupancy.gpus > 0})
        return f"the study runs on GPUs: the cluster has or can have {'; '.join(with_one)}"
    return "the study runs on CPUs: the cluster has no machine with a GPU and can start none"
