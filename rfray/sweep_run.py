"""A whole sweep: find what is missing, run it, record it."""

from __future__ import annotations

import json
import os
import socket
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock, Timeout
from rich.console import Console

from rfray.artifacts import write_atomically
from rfray.engine.drive import Driver, Watcher, demand
from rfray.engine.executor import Executor
from rfray.engine.frontier import Frontier, Occupancy, State
from rfray.engine.records import closing_tags
from rfray.engine.standing import Standing, standing
from rfray.engine.worker import published_outcome
from rfray.errors import UserError
from rfray.plan import Plan
from rfray.storage import Storage
from rfray.tracking import LedgerWriter, check_store, make_database
from rfray.watch import say, watching


@dataclass(frozen=True)
class Prepared:
    """A sweep that may start: nothing runs yet, and the ledger is settled."""

    plan: Plan
    ledger: LedgerWriter
    standing: Standing

    @property
    def missing(self) -> int:
        """Nodes that are not done."""
        return len(self.plan.nodes) - len(self.standing.finished)


@contextmanager
def prepared(plan: Plan, storage: Storage) -> Iterator[Prepared]:
    """Open the ledger of a plan, alone, and settle what an earlier driver left behind.

    Raises:
        UserError: The storage cannot be written, the tracking store does not answer, or another
            sweep of this study runs on this storage.
    """
    storage.make()
    with _alone(storage, plan.study.name):
        if storage.embedded:
            make_database(storage.database)
        check_store(storage.tracking_uri)
        ledger = LedgerWriter(
            storage.tracking_uri, plan.study.name, plan.study.document(), storage.artifact_root
        )
        _settle(plan, ledger)
        yield Prepared(plan, ledger, standing(plan, ledger.runs(plan.study.name)))


def run_sweep(
    sweep: Prepared, storage: Storage, make_executor: Callable[[], Executor], watcher: Watcher
) -> Frontier:
    """Run what is missing; where every node stands at the end.

    Interrupted, it ends the open runs as KILLED and raises on.
    """
    executor = make_executor()
    driver = Driver(
        plan=sweep.plan,
        standing=sweep.standing,
        ledger=sweep.ledger,
        executor=executor,
        watcher=watcher,
        checkpoints=storage.checkpoints,
        git=git_state(),
    )
    try:
        return driver.run()
    except KeyboardInterrupt:
        driver.abandon()
        raise
    finally:
        executor.close()


def sweep_study(
    plan: Plan, storage: Storage, make_executor: Callable[[], Executor], console: Console
) -> bool:
    """Run what is missing of a plan in front of a person; whether every run is done at the end."""
    for finding in plan.findings:
        say(console, f"note: {finding}")
    name, total = plan.study.name, len(plan.nodes)
    with prepared(plan, storage) as ready:
        if ready.missing == 0:
            say(console, f"{name}: all {total} runs are done")
            return True
        say(console, f"{name}: {ready.missing} of {total} runs to do, {total - ready.missing} done")
        with watching(plan, console) as watcher:
            frontier = run_sweep(ready, storage, make_executor, watcher)
    states = Counter(frontier.states.values())
    if states[State.DONE] == total:
        say(console, f"{name}: all {total} runs are done")
        return True
    say(
        console,
        f"{name}: {states[State.FAILED]} runs failed, {states[State.SKIPPED]} that follow them "
        f"were skipped, {states[State.DONE]} are done. Each failed run names its reason in the tag "
        "rfray.error. The same command tries them again.",
    )
    return False


def refuse_what_never_fits(plan: Plan, most: Occupancy, nodes: str) -> None:
    """UserError if a stage asks for more than any one node has; `nodes` says what there is."""
    for stage in plan.study.stage_parameters():
        need = demand(plan, stage, most)
        if not most.holds(need):
            raise UserError(
                f"asks for {need.cpus:g} CPUs and {need.gpus:g} GPUs, but there is only {nodes}",
                where=f"resources.{stage}",
                do="ask for less",
            )


def git_state() -> str:
    """Commit of rfray's checkout, `-dirty` behind it if changed; `unknown` outside one."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        answer = subprocess.run(
            command, cwd=Path(__file__).parent, capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return answer.stdout.strip()


def _settle(plan: Plan, ledger: LedgerWriter) -> None:
    """End the runs that a dead driver left RUNNING: FINISHED where the work was done."""
    before = standing(plan, ledger.runs(plan.study.name))
    for key, run in before.unfinished.items():
        outcome = published_outcome(run.artifact_uri, key, ledger.tracking_uri)
        if outcome is not None:
            logged = ledger.logged_steps(run)
            ledger.log_metrics(
                run.run_id,
                [
                    (entry.metric, entry.step, entry.value, entry.timestamp)
                    for entry in outcome.measurements
                    if (entry.metric, entry.step) not in logged
                ],
            )
            ledger.end_run(run.run_id, "FINISHED", closing_tags(outcome))
    for run in before.strays:
        ledger.end_run(run.run_id, "KILLED", {"rfray.error": "its driver died"})


@contextmanager
def _alone(storage: Storage, study: str) -> Iterator[None]:
    """Hold the study on this storage, so that no two drivers write the same runs."""
    lock = FileLock(storage.root / f"{study}.lock")
    holder = storage.root / f"{study}.driver.json"
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        who = json.loads(holder.read_text(encoding="utf-8")) if holder.is_file() else {}
        raise UserError(
            f"a sweep of '{study}' already runs on {who.get('host', 'another machine')} "
            f"(process {who.get('process', '?')}) since {who.get('since', 'a moment ago')}",
            where=str(storage.root),
            do="wait for it, or stop it",
        ) from error
    try:
        since = datetime.now(UTC).isoformat(timespec="seconds")
        facts = {"host": socket.gethostname(), "process": os.getpid(), "since": since}
        write_atomically(holder, json.dumps(facts))
        yield
    finally:
        lock.release()
