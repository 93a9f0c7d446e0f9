"""The MLflow runs of a sweep, from before their stage starts until after it has ended."""

import shutil
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

from rfray.engine.job import Measurement, Outcome
from rfray.engine.longer import may_go_on
from rfray.engine.records import closing_tags, missing_params, run_opening
from rfray.engine.scribe import Scribe
from rfray.engine.standing import Standing
from rfray.plan import Node
from rfray.tracking import KEY_TAG, LedgerWriter, Measured, RunOpening, RunRecord

_FLUSH_SECONDS = 5.0


@dataclass
class _Open:
    """A run that is open.

    Attributes:
        params: Params that the scribe does not have yet.
        logged: Each (metric, step) that is written or will be.
        buffer: Measurements that the scribe does not have yet.
        flushed: When the buffer was last emptied, on the monotonic clock.
    """

    run: RunRecord
    params: Mapping[str, Any]
    logged: set[tuple[str, int]]
    buffer: list[Measured] = field(default_factory=list)
    flushed: float = field(default_factory=time.monotonic)


class Recorder:
    """Opens a run for each node, collects its measurements, and ends the run.

    Nothing here waits for the tracking store: the scribe writes.

    Args:
        standing: Which runs the ledger already holds.
        checkpoints: Folder of checkpoints.
        git: Commit of the code, for the runs' tags.
    """

    def __init__(
        self, ledger: LedgerWriter, scribe: Scribe, standing: Standing, checkpoints: Path, git: str
    ) -> None:
        self._ledger = ledger
        self._scribe = scribe
        self._standing = standing
        self._checkpoints = checkpoints
        self._git = git
        self._run_ids = {key: run.run_id for key, run in standing.finished.items()}
        self._asked: set[str] = set()
        self._open: dict[str, _Open] = {}
        self._opened: SimpleQueue[tuple[str, _Open]] = SimpleQueue()
        self._abandoned = False

    def ask_for(self, nodes: Iterable[Node]) -> None:
        """Have the runs of nodes opened, unless this was asked before."""
        for node in nodes:
            if node.key not in self._asked:
                self._asked.add(node.key)
                parent = self._run_ids.get(node.parent) if node.parent else None
                earlier = self._standing.unfinished.get(node.key)
                opening = run_opening(node, parent, self._git, earlier)
                self._scribe.open(
                    node.key,
                    self._opening(node.key, opening, earlier),
                    partial(self._heard, node.key),
                )

    def run_of(self, key: str) -> RunRecord | None:
        """The open run of a node; None until the tracking store has opened it."""
        self._collect()
        entry = self._open.get(key)
        return entry.run if entry else None

    def opened(self) -> list[str]:
        """Keys of the nodes whose runs are open."""
        self._collect()
        return list(self._open)

    def measured(self, key: str, measurements: Iterable[Measurement]) -> None:
        """Collect measurements of a running node; a repeated metric and step is ignored."""
        entry = self._open[key]
        for measurement in measurements:
            identity = (measurement.metric, measurement.step)
            if identity not in entry.logged:
                entry.logged.add(identity)
                entry.buffer.append((*identity, measurement.value, measurement.timestamp))

    def flush_old(self) -> None:
        """Write measurements, and the params of open runs, that are older than a few seconds.

        Most stages end before that; then everything is written in one transaction at the end.
        """
        now = time.monotonic()
        for key, entry in self._open.items():
            if (entry.buffer or entry.params) and now - entry.flushed > _FLUSH_SECONDS:
                entry.flushed = now
                self._scribe.record(key, self._logging(entry))

    def end(self, node: Node, outcome: Outcome) -> None:
        """End a node's run with its outcome, and write all that is not yet written.

        After that its checkpoint is deleted, unless a longer training may continue from it.
        """
        self.measured(outcome.key, outcome.measurements)
        entry = self._open.pop(outcome.key)
        measured = entry.buffer
        params = {**entry.params, **missing_params(outcome.settled, entry.run)}
        well = outcome.status == "finished"
        tags = closing_tags(outcome)

        def write() -> None:
            status = "FINISHED" if well else "FAILED"
            self._ledger.end_run(entry.run.run_id, status, tags, measured, params)

        def forget(_written: None) -> None:
            if well and not may_go_on(node):
                shutil.rmtree(self._checkpoints / outcome.key, ignore_errors=True)

        self._scribe.record(outcome.key, write, forget)

    def withdraw(self, keys: Iterable[str], reason: str) -> None:
        """End the runs as KILLED that were opened for nodes that will not start."""
        for key in self._asked.intersection(keys):
            self._collect()
            self._open.pop(key, None)
            self._scribe.record(key, partial(self._kill, key, reason))

    def abandon(self) -> None:
        """End every open run as KILLED; a later sweep resumes it."""
        self._abandoned = True
        self._scribe.record_last(self._kill_open)

    def _collect(self) -> None:
        try:
            while True:
                key, entry = self._opened.get_nowait()
                self._open[key] = entry
                self._run_ids[key] = entry.run.run_id
        except Empty:
            return

    def _opening(
        self, key: str, opening: RunOpening, earlier: RunRecord | None
    ) -> Callable[[], _Open | None]:
        """A function that opens a run; it returns None if the sweep was abandoned."""
        tried = False

        def write() -> _Open | None:
            nonlocal tried
            if self._abandoned:
                return None
            # If an answer of the store was lost, the run may exist already.
            again = earlier or (self._ledger.running(KEY_TAG, key) if tried else None)
            tried = True
            if again is None:
                return _Open(self._ledger.open_run(opening), opening.params, set())
            run = self._ledger.reopen_run(again, opening)
            params = missing_params(opening.params, run)
            return _Open(run, params, self._ledger.logged_steps(run))

        return write

    def _heard(self, key: str, entry: _Open | None) -> None:
        """Runs in a thread of the scribe, after the transaction in which a run was opened."""
        if entry is not None:
            self._opened.put((key, entry))

    def _logging(self, entry: _Open) -> Callable[[], None]:
        measured, entry.buffer = entry.buffer, []
        params, entry.params = entry.params, {}
        return lambda: self._ledger.log(entry.run.run_id, params, measured)

    def _kill(self, key: str, reason: str) -> None:
        """Runs in the scribe's thread, after the opening; so the store is asked for the run."""
        run = self._ledger.running(KEY_TAG, key)
        if run is not None:
            self._ledger.end_run(run.run_id, "KILLED", {"rfray.error": reason}, [], {})

    def _kill_open(self) -> None:
        """Runs in the scribe's thread, after all openings."""
        self._collect()
        for entry in self._open.values():
            why = {"rfray.error": "interrupted"}
            self._ledger.end_run(entry.run.run_id, "KILLED", why, entry.buffer, entry.params)
