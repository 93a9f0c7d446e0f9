"""The cluster of a sweep: its machines, those that could join, and the requests for them."""

import time
from collections.abc import Callable, Sequence

from rfray.engine.assemble import demands
from rfray.engine.executor import Executor
from rfray.engine.frontier import Frontier
from rfray.engine.places import GIB, Machine, Occupancy
from rfray.engine.prospects import Bundle, occupancy_of
from rfray.engine.wanted import Outlook, left_of
from rfray.errors import UserError
from rfray.plan import Node, Plan

_ASK_SECONDS = 2.0
_ANY_MACHINE: list[Bundle] = [{"CPU": 1.0}]


class Ground:
    """Follows the cluster for a driver.

    Whether the study runs on GPUs is decided when the first machines are known. It does not change
    later, because the demand of a node must not change while it waits or runs.

    Args:
        noted: Called with a sentence on each decision and each request.
    """

    def __init__(self, plan: Plan, executor: Executor, noted: Callable[[str], None]) -> None:
        self._plan = plan
        self._executor = executor
        self._noted = noted
        self._seen = executor.machines
        self._outlook: Outlook | None = None  # until the first machines are known
        self._looked = False
        self._waits_since: tuple[float, str] | None = None  # monotonic, and for the reader
        self._asked_at = -_ASK_SECONDS
        self._asked_slots = 0.0

    @property
    def occupancies(self) -> dict[str, Occupancy]:
        """What each machine offers, by name."""
        return {name: machine.occupancy for name, machine in self._seen.items()}

    @property
    def gpus(self) -> bool | None:
        """Whether the study runs on GPUs; None while no machine is known."""
        return self._outlook.gpus if self._outlook is not None else None

    def follow(self, frontier: Frontier) -> bool:
        """Update the frontier's machines; returns whether nodes may start.

        Raises:
            UserError: A stage fits no machine that is there or could join.
        """
        now = self._executor.machines
        if now is not self._seen:
            self._seen = now
            frontier.follow(self.occupancies)
        if self._outlook is None:
            self._outlook = self._settle(frontier)
        self._looked = True
        return self._outlook is not None

    def demand(self, node: Node) -> Occupancy:
        """What a node occupies; known once nodes may start."""
        if self._outlook is None:
            raise RuntimeError("no machine is known yet")
        return self._outlook.demands[node.stage]

    def ended(self, node: Node) -> None:
        """Count a node that has ended or will never run."""
        if self._outlook is not None:
            self._outlook.ended(node)

    def ask(self, frontier: Frontier) -> None:
        """Ask the cluster for the machines that would finish the study sooner, and no more."""
        prospects = self._executor.prospects
        if prospects is None or time.monotonic() - self._asked_at < _ASK_SECONDS:
            return
        self._asked_at = time.monotonic()
        if self._outlook is None:
            self._executor.want(_ANY_MACHINE)
            return
        wanted = self._outlook.bundles(frontier)
        bundles = prospects.within([self._bundle(stage, need) for stage, need in wanted])
        self._executor.want(bundles)
        self._say_asked(bundles)

    def waiting_words(self, frontier: Frontier) -> str:
        """Which machine the sweep waits for, and since when; empty if for none."""
        wanted = self._missing(frontier)
        if not wanted:
            self._waits_since = None
            return ""
        self._waits_since = self._waits_since or (time.monotonic(), time.strftime("%H:%M:%S"))
        since, clock = self._waits_since
        minutes, seconds = divmod(int(time.monotonic() - since), 60)
        return f"waiting for {wanted} since {clock} ({minutes}:{seconds:02d} min)"

    def _missing(self, frontier: Frontier) -> str:
        if self._outlook is None:
            return "a machine with a CPU or GPU to join the cluster, which has none"
        if not frontier.unheld:
            return ""
        stage, need = next(iter(frontier.unheld.items()))
        machine = _described(need, self._plan.study.request(stage).memory)
        return f"a machine with {machine} ({', '.join(frontier.unheld)})"

    def _settle(self, frontier: Frontier) -> Outlook | None:
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
        return Outlook(self._plan, left_of(frontier), demands(self._plan, gpus=gpus), gpus=gpus)

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


def runs_on_gpus(machines: Sequence[Machine]) -> bool | None:
    """Whether a study runs on GPUs with these machines; None if none of them has a CPU or GPU.

    One machine with a GPU is enough: the others run stages that need no GPU.
    """
    if any(machine.occupancy.gpus > 0 for machine in machines):
        return True
    return False if any(machine.occupancy.cpus > 0 for machine in machines) else None


def refuse_what_never_fits(plan: Plan, machines: Sequence[Machine]) -> None:
    """UserError if a stage asks for more than any of the machines has."""
    for stage, need in demands(plan, gpus=bool(runs_on_gpus(machines))).items():
        memory = plan.study.request(stage).memory
        if not any(machine.holds(need, memory or 0) for machine in machines):
            there = ", ".join(sorted({str(machine) for machine in machines})) or "no machine"
            raise UserError(
                f"asks for {_described(need, memory)} on one machine, but there is only {there}",
                where=f"resources.{stage}",
                do="ask for less",
            )


def _decision(could_be: list[Machine], *, gpus: bool) -> str:
    if gpus:
        with_one = sorted({str(m) for m in could_be if m.occupancy.gpus > 0})
        return f"the study runs on GPUs: the cluster has or can have {'; '.join(with_one)}"
    return "the study runs on CPUs: the cluster has no machine with a GPU and can start none"


def _described(need: Occupancy, memory: float | None) -> str:
    """What a stage asks for, in words; memory in bytes."""
    wanted = f"{need.cpus:g} CPUs and {need.gpus:g} GPUs"
    return wanted + (f" with {memory / GIB:.1f} GiB of memory" if memory else "")
