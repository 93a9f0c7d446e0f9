"""Jobs on Ray: training cells and samples as Tune trials, everything else as tasks."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from rfray.engine.answer import answered, lost
from rfray.engine.executor import Ended, Event, Executor, Progressed
from rfray.engine.job import NOTHING_TOLD, Job, Progress
from rfray.engine.keeper import Requests
from rfray.engine.places import Machine, Occupancy
from rfray.engine.progress import SECONDS_BETWEEN, noted_progress
from rfray.engine.prospects import Bundle, Prospects, machine_of
from rfray.engine.trials import TrialLane
from rfray.engine.worker import run_task
from rfray.errors import first_line
from rfray.study import Request
from rfray.study.naming import SAMPLE, TRAIN

_COUNT_SECONDS = 1.0
_TAKE_BACK_SECONDS = 5.0


def machines() -> dict[str, Machine]:
    """The resources of each machine of the cluster, by Ray's node identifier."""
    alive = [node for node in ray.nodes() if node["Alive"]]
    return {node["NodeID"]: machine_of(node["Resources"], memory=0.0) for node in alive}


def changes_cards(occupancy: Occupancy, offered: Iterable[Machine]) -> bool:
    """Whether a process that runs several tasks could be given another card each time."""
    return occupancy.gpus > 0 and any(machine.occupancy.gpus > 1 for machine in offered)


@dataclass
class _Task:
    """A running task: the reference of its result, its folder, and the progress passed on."""

    reference: Any
    checkpoint: Path
    told: Progress = NOTHING_TOLD


class RayExecutor(Executor):
    """Runs jobs on the Ray that `start_ray` joined; `storage` is the folder for Tune's records.

    `requests` asks for more machines; it is None if no more machines can join.
    """

    def __init__(self, study: str, storage: Path, requests: Requests | None = None) -> None:
        self._study = study
        self._storage = storage
        self._events: SimpleQueue[Event | None] = SimpleQueue()
        self._lane: TrialLane | None = None
        self._task: Callable[..., Any] = ray.remote(run_task)
        # A process keeps the card that it first computed on, even if Ray assigns it another one
        # later. So on a machine with several cards each process runs only one task.
        self._task_of_one_card: Callable[..., Any] = ray.remote(max_calls=1)(run_task)
        self._running: dict[str, _Task] = {}
        self._answered: set[str] = set()
        self._looked = time.monotonic()
        self._requests = requests
        self._machines = machines()
        self._counted = time.monotonic()

    @property
    def machines(self) -> Mapping[str, Machine]:
        """The machines of the cluster, at most a second old."""
        if time.monotonic() - self._counted > _COUNT_SECONDS:
            now = machines()
            if now != self._machines:
                self._machines = now
            self._counted = time.monotonic()
        return self._machines

    @property
    def prospects(self) -> Prospects | None:
        """What the cluster's autoscaler may start; None if that is not known."""
        return self._requests.prospects if self._requests is not None else None

    def want(self, bundles: Sequence[Bundle]) -> None:
        """Request it from the autoscaler."""
        if self._requests is not None:
            self._requests.want(bundles)

    def submit(self, job: Job, occupancy: Occupancy, request: Request, machine: str | None) -> None:
        """Start a job as a trial, which Ray places, or as a task."""
        if job.stage in (TRAIN, SAMPLE):
            if self._lane is None:
                self._lane = TrialLane(self._study, self._storage, request, self._events)
            self._lane.release(job, occupancy)
            return
        if self._lane is not None:
            self._lane.give_up_idle_slot()
        changes = changes_cards(occupancy, self.machines.values())
        task = self._task_of_one_card if changes else self._task
        options = task.options(  # type: ignore[attr-defined]
            # Ray keeps 10 kB for each name for as long as the sweep lasts.
            name=job.stage,
            num_cpus=occupancy.cpus,
            num_gpus=occupancy.gpus,
            memory=request.memory,
            max_retries=request.retries,
            # On the planned machine, or elsewhere instead of waiting: a trial may still hold it.
            scheduling_strategy=_on(machine),
        )
        reference = options.remote(job.model_dump_json())
        self._running[job.key] = _Task(reference, Path(job.checkpoint))
        reference.future().add_done_callback(lambda future: self._ended(job, future))

    def no_more(self, stage: str) -> None:
        """Tune may end once its trials have."""
        if stage == TRAIN and self._lane is not None:
            self._lane.close()

    def events(self, timeout: float) -> list[Event]:
        """The events since the last call; raises the error that stopped Tune, if one did."""
        if self._lane is not None and self._lane.failure is not None:
            raise self._lane.failure
        happened: list[Event | None] = []
        try:
            happened.append(self._events.get(timeout=timeout))
            while True:
                happened.append(self._events.get_nowait())
        except Empty:
            events = [event for event in happened if event is not None]
            self._answered |= {event.outcome.key for event in events if isinstance(event, Ended)}
            return [*self._progress(), *events]

    def _progress(self) -> Iterator[Event]:
        """New progress of tasks, every few seconds."""
        if time.monotonic() - self._looked < SECONDS_BETWEEN:
            return
        self._looked = time.monotonic()
        for key, task in list(self._running.items()):
            noted = noted_progress(task.checkpoint)
            new = noted.measurements[len(task.told.measurements) :]
            if new or noted.doing != task.told.doing:
                yield Progressed(key, Progress(measurements=new, doing=noted.doing))
                task.told = noted

    def all_submitted(self) -> None:
        """Let Tune go on, where it waits for what follows the end of a trial."""
        if self._lane is not None:
            self._lane.acted_on(self._answered)
        self._answered.clear()

    def wake(self) -> None:
        """Let a waiting `events` return."""
        self._events.put(None)

    def close(self) -> None:
        """Stop all jobs and leave the cluster."""
        self.no_more(TRAIN)
        if self._requests is not None:
            self._requests.take_back(_TAKE_BACK_SECONDS)
        ray.shutdown()

    def _ended(self, job: Job, future: Any) -> None:
        """Runs in Ray's thread: sends the outcome to the driver's thread."""
        self._running.pop(job.key, None)
        error = future.exception()
        if error is None:
            self._events.put(Ended(answered(job, future.result())))
            return
        self._events.put(Ended(lost(job, f"the task's process was lost: {first_line(error)}")))


def _on(machine: str | None) -> Any:
    if machine is None:
        return "DEFAULT"
    return NodeAffinitySchedulingStrategy(machine, soft=True, _spill_on_unavailable=True)
