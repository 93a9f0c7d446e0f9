"""The driver: gives ready nodes to the executor, and their outcomes to the recorder."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from rfray.engine.assemble import Inputs, assemble, readers
from rfray.engine.executor import Event, Executor, Progressed
from rfray.engine.frontier import Frontier, State
from rfray.engine.ground import Ground
from rfray.engine.job import NOTHING_TOLD, Outcome, Progress
from rfray.engine.longer import begun
from rfray.engine.pace import Pace
from rfray.engine.recorder import Recorder
from rfray.engine.scribe import Scribe
from rfray.engine.shares import Grant, Shares
from rfray.engine.standing import Standing, other_precision
from rfray.engine.view import Ending, Running, View, Watcher
from rfray.plan import Node, Plan
from rfray.tracking import LedgerWriter, RunRecord

_WAIT_SECONDS = 0.5
_LEAST_RUNS_AHEAD = 4


@dataclass
class _Running:
    """A running node: its run, its grant, its start, and its last progress."""

    run: RunRecord
    grant: Grant
    since: float = field(default_factory=time.monotonic)
    told: Progress = NOTHING_TOLD


class Driver:
    """Runs all nodes of a plan that are not done.

    Every worker must see the folder `checkpoints`. `git` is the commit of the code, for the runs'
    tags.
    """

    def __init__(
        self,
        plan: Plan,
        standing: Standing,
        ledger: LedgerWriter,
        scribe: Scribe,
        executor: Executor,
        watcher: Watcher,
        checkpoints: Path,
        git: str,
    ) -> None:
        self._plan = plan
        self._tracking_uri = ledger.tracking_uri
        self._scribe = scribe
        self._recorder = Recorder(ledger, scribe, standing, checkpoints, git)
        self._executor = executor
        self._watcher = watcher
        self._checkpoints = checkpoints
        done = standing.finished.keys()
        self._inputs = Inputs(plan, standing.finished)
        self._standing = standing
        self._ground = Ground(plan, executor, watcher.noted)
        self._shares = Shares(plan, self._ground.demand)
        self._frontier = Frontier(plan, done, self._ground.occupancies)
        # The grant of a node must not change after it has its slot.
        self._unopened: dict[str, tuple[Node, Grant]] = {}
        self._running: dict[str, _Running] = {}
        self._told_causes: set[tuple[str, bool]] = set()
        self._started = time.monotonic()
        self._pace = Pace(node for key, node in plan.nodes.items() if key not in done)

    def run(self, stop: Callable[[], bool]) -> Frontier:
        """Run every node that is not done; returns the frontier with their final states.

        Once `stop` returns True, no node is started or waited for, and every open run is ended as
        KILLED. Runs that have ended are kept.
        """
        while not (self._frontier.finished and self._scribe.settled):
            if stop():
                self._recorder.abandon()
                break
            self._scribe.check()
            if self._may_start():
                self._start_ready()
            if not self._unopened:
                self._executor.all_submitted()
            self._ground.ask(self._frontier)
            self._watcher.looked(self._view())
            for event in self._executor.events(_WAIT_SECONDS):
                self._take(event)
            self._recorder.flush_old()
        self._watcher.looked(self._view())
        return self._frontier

    def _may_start(self) -> bool:
        """Look at the cluster; whether the demands of nodes are known, so that they may start."""
        known_before = self._ground.gpus is not None
        may = self._ground.follow(self._frontier)
        if may and not known_before:
            words = other_precision(self._plan, self._standing, gpus=bool(self._ground.gpus))
            if words:
                self._watcher.noted(words)
        return may

    def _start_ready(self) -> None:
        """Give free slots to the heaviest nodes, and have the runs of the next nodes opened.

        During an outage of the tracking store, slots go to the heaviest nodes whose runs are open.
        """
        away = self._scribe.outage is not None
        opened = self._recorder.opened() if away else None
        for node in self._frontier.start(self._shares.demand, opened):
            self._unopened[node.key] = (node, self._shares.grant(node))
        self._recorder.ask_for(node for node, _ in self._unopened.values())
        ahead = max(_LEAST_RUNS_AHEAD, len(self._running))
        self._recorder.ask_for(self._frontier.upcoming(ahead))
        for node, grant in list(self._unopened.values()):
            self._submit_if_open(node, grant)

    def _submit_if_open(self, node: Node, grant: Grant) -> None:
        run = self._recorder.run_of(node.key)
        if run is None:
            return
        self._running[node.key] = _Running(run, grant)
        # A run that `rfray redo` asked for must not continue from older results.
        redone = node.key in self._standing.redone
        job = assemble(
            self._plan,
            node,
            run,
            self._inputs.of(node),
            grant,
            self._checkpoints,
            self._tracking_uri,
            None if redone else begun(node, self._checkpoints),
        )
        request = self._plan.study.request(node.stage)
        place = self._frontier.place_of(node.key)
        self._executor.submit(job, grant.occupancy, request, place)
        del self._unopened[node.key]
        self._tell_if_last(node.stage)

    def _take(self, event: Event) -> None:
        """Change the states of nodes after an event, and have it recorded."""
        if isinstance(event, Progressed):
            # If Tune has started a trial again, its progress may arrive after its end.
            if event.key in self._running:
                self._running[event.key].told = event.progress
                self._recorder.measured(event.key, event.progress.measurements)
                if event.progress.use is not None:
                    self._shares.measured(self._plan.nodes[event.key], event.progress.use)
            return
        outcome = event.outcome
        node, ended = self._plan.nodes[outcome.key], self._running.pop(outcome.key)
        if outcome.out_of_card_memory and self._shares.try_again(node, ended.grant):
            # It waits for a larger share of a card; its run stays open.
            self._recorder.measured(node.key, outcome.measurements)
            self._frontier.again(node.key)
            return
        well = outcome.status == "finished"
        if well:
            self._inputs.finished(node, ended.run, outcome)
            self._pace.finished(node, outcome.seconds)
        else:
            self._pace.dropped(node)
        self._recorder.end(node, outcome)
        skipped = self._frontier.end(outcome.key, well=well)
        cause = (outcome.unreadable, outcome.no_card)
        told_before = cause in self._told_causes
        if any(cause) and not told_before:
            self._told_causes.add(cause)
            skipped += self._withdraw_others(outcome)
        others = [self._plan.nodes[key] for key in skipped]
        for gone in [node, *others]:
            self._ground.ended(gone)
            self._inputs.ended(gone)
        for other in others:
            self._pace.dropped(other)
            self._tell_if_last(other.stage)
        if not told_before:
            self._watcher.ended(Ending(node, outcome, len(skipped)))

    def _withdraw_others(self, outcome: Outcome) -> list[str]:
        """Skip the nodes that would fail for the same reason, and return their keys.

        They read a data set that a worker could not read, or they need a GPU and PyTorch found none
        on a machine with GPUs.
        """
        if outcome.unreadable:
            keys = readers(self._plan, outcome.unreadable)
            reason = f"the data set {outcome.unreadable} cannot be read"
        else:
            nodes, reason = self._plan.nodes, outcome.reason
            keys = [key for key, node in nodes.items() if self._shares.demand(node).gpus > 0]
        skipped = self._frontier.withdraw(keys)
        self._recorder.withdraw(skipped, f"not started: {reason}")
        return skipped

    def _tell_if_last(self, stage: str) -> None:
        """Tell the executor if no node of a stage waits, neither for room nor for its run."""
        waiting = self._frontier.counts()[stage][State.WAITING]
        if not waiting and all(node.stage != stage for node, _ in self._unopened.values()):
            self._executor.no_more(stage)

    def _view(self) -> View:
        now = time.monotonic()
        seconds = now - self._started
        running = tuple(
            Running(self._plan.nodes[key], now - held.since, held.told)
            for key, held in self._running.items()
        )
        taken = [(one.node, one.seconds) for one in running]
        return View(
            frontier=self._frontier,
            seconds=seconds,
            seconds_left=self._pace.seconds_left(seconds, taken),
            running=running,
            outage=self._outage_words(),
            waiting=self._ground.waiting_words(self._frontier),
        )

    def _outage_words(self) -> str:
        outage = self._scribe.outage
        if outage is None:
            return ""
        seconds = time.monotonic() - outage.since
        return (
            f"the tracking store has not answered for {seconds:.0f} s ({outage.reason}); results "
            "are kept with the artifacts, and written when it answers"
        )
