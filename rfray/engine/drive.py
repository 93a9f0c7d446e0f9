"""The driver: gives ready nodes to the executor and writes what comes back into the ledger."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from rfray.engine.executor import Event, Executor, Progressed
from rfray.engine.frontier import Frontier, Occupancy, State
from rfray.engine.job import Job, JobInput, Measurement, Outcome
from rfray.engine.records import closing_tags, run_opening
from rfray.engine.standing import Standing
from rfray.plan import Node, Plan
from rfray.tracking import LedgerWriter, Measured, RunRecord

_WAIT_SECONDS = 0.5
_FLUSH_SECONDS = 5.0
_MOST_CPU_THREADS = 64


@dataclass(frozen=True)
class Finished:
    """A finished node, as the nodes that read it need it."""

    run_id: str
    artifact_uri: str
    metrics: Mapping[str, float]


@dataclass(frozen=True)
class Ending:
    """One node's end, for whoever watches."""

    node: Node
    outcome: Outcome
    skipped: int


@dataclass(frozen=True)
class View:
    """What a watcher sees.

    Attributes:
        frontier: Where every node stands.
        capacity: What there is to run on.
        work_done: Multiply-accumulate operations finished by this driver.
        work_left: Those of every node that is not finished.
        seconds: Since the driver started.
    """

    frontier: Frontier
    capacity: Occupancy
    work_done: float
    work_left: float
    seconds: float


@dataclass(frozen=True)
class Watcher:
    """Who is told how a sweep goes: of every ending at once, of the view every now and then."""

    ended: Callable[[Ending], None]
    looked: Callable[[View], None]


@dataclass
class _Open:
    """A run that the driver has opened and not yet ended."""

    node: Node
    run: RunRecord
    occupancy: Occupancy
    buffer: list[Measured] = field(default_factory=list)
    logged: set[tuple[str, int]] = field(default_factory=set)
    flushed: float = field(default_factory=time.monotonic)


class Driver:
    """Works a plan off.

    Args:
        plan: What to run.
        standing: What the ledger already holds of it.
        ledger: Where runs are written.
        executor: Where jobs run.
        watcher: Who is told.
        checkpoints: Folder for what interrupted training leaves; every worker must see it.
        git: State of the code, for the runs' tags.
    """

    def __init__(
        self,
        plan: Plan,
        standing: Standing,
        ledger: LedgerWriter,
        executor: Executor,
        watcher: Watcher,
        checkpoints: Path,
        git: str,
    ) -> None:
        self._plan = plan
        self._standing = standing
        self._ledger = ledger
        self._executor = executor
        self._watcher = watcher
        self._checkpoints = checkpoints
        self._git = git
        self._done = {
            key: Finished(run.run_id, run.artifact_uri, run.metrics)
            for key, run in standing.finished.items()
        }
        self._runs: dict[str, str] = {key: run.run_id for key, run in standing.finished.items()}
        self._open: dict[str, _Open] = {}
        self._capacity = executor.capacity
        self._frontier = Frontier(plan, set(self._done), self._capacity)
        self._waiting_by_stage = _count_waiting(self._frontier)
        self._started = time.monotonic()
        self._work_done = 0.0

    def run(self) -> Frontier:
        """Run every node that is not done; where each one stands at the end."""
        self._start_ready()
        while not self._frontier.finished:
            self._watcher.looked(self._view())
            ended = [self._take(event) for event in self._executor.events(_WAIT_SECONDS)]
            # Slots first, records second: what ended lies complete among its artifacts already.
            self._start_ready()
            for ending in filter(None, ended):
                self._write(ending)
            self._flush_old()
        self._watcher.looked(self._view())
        return self._frontier

    def abandon(self) -> None:
        """End every open run as KILLED; a later sweep takes it up again."""
        for entry in self._open.values():
            self._ledger.log_metrics(entry.run.run_id, entry.buffer)
            self._ledger.end_run(entry.run.run_id, "KILLED", {"rfray.error": "interrupted"})
        self._open.clear()

    def _start_ready(self) -> None:
        for node in self._frontier.start(self._demand):
            occupancy = self._demand(node)
            run = self._open_run(node)
            self._open[node.key] = _Open(node, run, occupancy)
            if node.key in self._standing.unfinished:
                self._open[node.key].logged = self._ledger.logged_steps(run)
            self._runs[node.key] = run.run_id
            memory = self._plan.study.request(node.stage).memory
            self._executor.submit(self._job(node, run, occupancy), occupancy, memory)
            self._waiting_by_stage[node.stage] -= 1
            self._tell_if_no_more(node.stage)

    def _demand(self, node: Node) -> Occupancy:
        return demand(self._plan, node.stage, self._capacity)

    def _open_run(self, node: Node) -> RunRecord:
        parent = self._runs.get(node.parent) if node.parent else None
        earlier = self._standing.unfinished.get(node.key)
        opening = run_opening(node, parent, self._git, earlier)
        if earlier is not None:
            return self._ledger.reopen_run(earlier, opening)
        return self._ledger.open_run(opening)

    def _job(self, node: Node, run: RunRecord, occupancy: Occupancy) -> Job:
        sources = [(self._plan.nodes[key], self._done[key]) for key in node.inputs]
        return Job(
            key=node.key,
            name=node.name,
            stage=node.stage,
            variant=dict(node.variant),
            parameters=node.parameters.model_dump(),
            cells=list(node.cells),
            inputs=[
                JobInput(
                    stage=source.stage,
                    cell=source.cells[0],
                    run_id=finished.run_id,
                    artifact_uri=finished.artifact_uri,
                    metrics=dict(finished.metrics),
                )
                for source, finished in sources
            ],
            run_id=run.run_id,
            artifact_uri=run.artifact_uri,
            checkpoint=str(self._checkpoints / node.key),
            data_root=self._plan.study.data.root,
            fingerprint=node.cells[0].facts.fingerprint,
            tracking_uri=self._ledger.tracking_uri,
            threads=max(1, min(int(occupancy.cpus), _MOST_CPU_THREADS)),
            device="cuda" if occupancy.gpus > 0 else "cpu",
        )

    def _record(self, key: str, measurements: tuple[Measurement, ...]) -> None:
        entry = self._open.get(key)
        if entry is not None:
            entry.buffer += _new_measurements(measurements, entry.logged)

    def _flush_old(self) -> None:
        now = time.monotonic()
        for entry in self._open.values():
            if entry.buffer and now - entry.flushed > _FLUSH_SECONDS:
                self._ledger.log_metrics(entry.run.run_id, entry.buffer)
                entry.buffer = []
                entry.flushed = now

    def _take(self, event: Event) -> Ending | None:
        """Let an event change where nodes stand; the ending that is still to be written, if any."""
        if isinstance(event, Progressed):
            self._record(event.key, event.measurements)
            return None
        outcome, entry = event.outcome, self._open[event.outcome.key]
        well = outcome.status == "finished"
        if well:
            self._done[outcome.key] = Finished(
                entry.run.run_id, entry.run.artifact_uri, outcome.last_metrics
            )
            self._work_done += entry.node.work
        skipped = self._frontier.end(outcome.key, entry.occupancy, well=well)
        for key in skipped:
            stage = self._plan.nodes[key].stage
            self._waiting_by_stage[stage] -= 1
            self._tell_if_no_more(stage)
        return Ending(entry.node, outcome, len(skipped))

    def _write(self, ending: Ending) -> None:
        outcome, entry = ending.outcome, self._open[ending.node.key]
        entry.buffer += _new_measurements(tuple(outcome.measurements), entry.logged)
        self._ledger.log_metrics(entry.run.run_id, entry.buffer)
        status = "FINISHED" if outcome.status == "finished" else "FAILED"
        self._ledger.end_run(entry.run.run_id, status, closing_tags(outcome))
        del self._open[ending.node.key]
        if outcome.status == "finished":
            shutil.rmtree(self._checkpoints / outcome.key, ignore_errors=True)
        self._watcher.ended(ending)

    def _tell_if_no_more(self, stage: str) -> None:
        if self._waiting_by_stage[stage] == 0:
            self._executor.no_more(stage)

    def _view(self) -> View:
        left = sum(
            node.work
            for key, node in self._plan.nodes.items()
            if self._frontier.states[key] in (State.WAITING, State.RUNNING)
        )
        seconds = time.monotonic() - self._started
        return View(self._frontier, self._capacity, self._work_done, left, seconds)


def demand(plan: Plan, stage: str, capacity: Occupancy) -> Occupancy:
    """What one node of a stage occupies on a cluster of that capacity."""
    request = plan.study.request(stage)
    if request.gpus is not None:
        return Occupancy(request.cpus, request.gpus)
    if capacity.gpus == 0:
        return Occupancy(request.cpus, 0.0)
    return Occupancy(request.cpus, 1.0 if stage == "train" else 0.25)


def _count_waiting(frontier: Frontier) -> dict[str, int]:
    return {stage: counts[State.WAITING] for stage, counts in frontier.counts().items()}


def _new_measurements(
    measurements: tuple[Measurement, ...], logged: set[tuple[str, int]]
) -> list[Measured]:
    """Those whose metric and step were not logged yet; they count as logged from now on."""
    new: list[Measured] = []
    for entry in measurements:
        identity = (entry.metric, entry.step)
        if identity not in logged:
            logged.add(identity)
            new.append((*identity, entry.value, entry.timestamp))
    return new
