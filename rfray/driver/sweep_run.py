"""A whole sweep: find what is missing, run it, record it."""

from __future__ import annotations

import subprocess
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from rich.console import Console

from rfray.driver.holding import study_held
from rfray.driver.taking import take_over
from rfray.driver.watch import say, watching
from rfray.engine.assemble import readers
from rfray.engine.drive import Driver
from rfray.engine.executor import Executor
from rfray.engine.frontier import Frontier, State
from rfray.engine.longer import longer_words
from rfray.engine.records import closing_tags, describe_study, missing_params, study_document
from rfray.engine.reuse import taken_words
from rfray.engine.scribe import Scribe
from rfray.engine.standing import Standing, standing
from rfray.engine.view import Watcher
from rfray.engine.worker import published_outcome
from rfray.plan import Node, Plan
from rfray.storage import Storage
from rfray.study.naming import in_short
from rfray.terminal.reading import reading_shown
from rfray.tracking import LedgerWriter, RunRecord, store_answers

_INTERRUPTED_PATIENCE_SECONDS = 10.0


@dataclass(frozen=True)
class Prepared:
    """A sweep that may start: nothing runs yet, and the ledger is settled.

    Attributes:
        plan: What it is to run.
        ledger: Where it writes.
        standing: What the ledger holds of the plan.
        renew: Says to other drivers that this one lives; UserError if one has taken over.
        moved: What was said of studies whose artifacts lay elsewhere than MLflow knew.
        taken: How many runs it has just taken over, by the study that computed them.
    """

    plan: Plan
    ledger: LedgerWriter
    standing: Standing
    renew: Callable[[], None]
    moved: list[str]
    taken: Mapping[str, int]

    @property
    def missing(self) -> int:
        """Nodes that are not done."""
        return len(self.plan.nodes) - len(self.standing.finished)


@contextmanager
def prepared(plan: Plan, storage: Storage) -> Iterator[Prepared]:
    """Open the ledger of a plan, alone, and settle what an earlier driver left behind.

    Raises:
        UserError: The storage cannot be written, the tracking store does not answer, or another
            sweep of this study runs.
    """
    with study_held(plan.study.name, storage) as held:
        ledger = held.ledger
        with store_answers(storage.tracking_uri):
            ledger.describe(study_document(plan), describe_study(plan))
            stands = _settled(plan, ledger, held.renew)
            taken = take_over(plan, stands, ledger, held.renew)
            if taken:
                stands = standing(plan, ledger.runs(plan.study.name))
        yield Prepared(plan, ledger, stands, held.renew, held.moved, Counter(taken.values()))


def run_sweep(
    sweep: Prepared,
    storage: Storage,
    make_executor: Callable[[], Executor],
    watcher: Watcher,
    stop: Callable[[], bool] = lambda: False,
) -> Frontier:
    """Run what is missing; where every node stands at the end.

    Raises:
        KeyboardInterrupt: `stop` said so. What has ended is kept, the other open runs are KILLED.
        UserError: The tracking store refuses what is written, or another driver has taken over.
    """
    executor = make_executor()
    ledger = sweep.ledger
    together = ledger.together if ledger.has_transactions else None
    scribe = Scribe(sweep.renew, executor.wake, together)
    try:
        driver = Driver(
            plan=sweep.plan,
            standing=sweep.standing,
            ledger=ledger,
            scribe=scribe,
            executor=executor,
            watcher=watcher,
            checkpoints=storage.checkpoints,
            git=git_state(),
        )
        with store_answers(storage.tracking_uri):
            frontier = driver.run(stop)
            if scribe.was_away:
                runs = ledger.runs(sweep.plan.study.name)
                _end_strays(standing(sweep.plan, runs), ledger)
    finally:
        try:
            scribe.close(_INTERRUPTED_PATIENCE_SECONDS)
        finally:
            executor.close()
    if stop():
        raise KeyboardInterrupt
    return frontier


def sweep_study(
    plan: Plan,
    storage: Storage,
    make_executor: Callable[[], Executor],
    console: Console,
    stop: Callable[[], bool],
    check_data: Callable[[Iterable[str]], None],
) -> dict[str, State]:
    """Run what is missing of a plan in front of a person; where each node stands, by its key.

    Args:
        plan: What to run.
        storage: Where results go.
        make_executor: Joins or starts what runs them; called once something is to be run.
        console: Where a person looks.
        stop: Whether the person wants an end of it.
        check_data: Called before that with the names of the data sets that are to be read; raises
            if one cannot be.

    Raises:
        UserError: See `prepared` and `run_sweep`, or a data set cannot be read.
    """
    for finding in plan.findings:
        say(console, f"note: {finding}")
    name, total = plan.study.name, len(plan.nodes)
    with prepared(plan, storage) as ready:
        for moved in ready.moved:
            say(console, f"note: {moved}")
        if ready.taken:
            say(console, f"{name}: {taken_words(ready.taken)}")
        if ready.missing == 0:
            say(console, f"{name}: all {total} runs are done")
            return dict.fromkeys(plan.nodes, State.DONE)
        for words in chain(_told_again(ready), _told_longer(ready, storage)):
            say(console, f"note: {words}")
        with reading_shown():
            check_data(_datasets_to_read(ready))
        say(console, f"{name}: {ready.missing} of {total} runs to do, {total - ready.missing} done")
        with watching(plan, console) as watcher:
            frontier = run_sweep(ready, storage, make_executor, watcher, stop)
    states = Counter(frontier.states.values())
    if states[State.DONE] == total:
        say(console, f"{name}: all {total} runs are done")
        return dict(frontier.states)
    say(
        console,
        f"{name}: {states[State.FAILED]} runs failed, {states[State.SKIPPED]} that follow them "
        f"were skipped, {states[State.DONE]} are done. Each failed run names its reason in the tag "
        "rfray.error. The same command tries them again.",
    )
    return dict(frontier.states)


def _told_longer(ready: Prepared, storage: Storage) -> Iterator[str]:
    """That trainings go on from shorter ones."""
    missing = (node for key, node in ready.plan.nodes.items() if key not in ready.standing.finished)
    return longer_words(missing, storage.checkpoints, ready.standing.outside)


def _told_again(ready: Prepared) -> Iterator[str]:
    """That finished runs are computed again, since what they lack is read."""
    names = [ready.plan.nodes[key].name for key in ready.standing.again]
    if names:
        lack = "finished run lacks" if len(names) == 1 else "finished runs lack"
        yield (
            f"{len(names)} {lack} weights that are needed again (rfray clean dropped them, or they "
            "were not in the archive that was imported; importing one that holds them brings them "
            f"back), and will be computed again: {in_short(names)}. On a processor they get the "
            "same bits; on a GPU without train.deterministic the last ones may differ"
        )


def _datasets_to_read(ready: Prepared) -> list[str]:
    nodes, finished = ready.plan.nodes, ready.standing.finished
    names = dict.fromkeys(node.cells[0].dataset for node in nodes.values())
    return [n for n in names if any(key not in finished for key in readers(ready.plan, n))]


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


def _settled(plan: Plan, ledger: LedgerWriter, renew: Callable[[], None]) -> Standing:
    """What the ledger holds once the runs that a dead driver left RUNNING are ended.

    FINISHED where the work was done; the others are for this driver to take up again.
    """
    before = standing(plan, ledger.runs(plan.study.name))
    for key, run in before.finished.items():
        _tell_apart(plan.nodes[key], run, ledger, renew)
    if not before.unfinished and not before.strays:
        return before
    for key, run in before.unfinished.items():
        renew()
        outcome = published_outcome(run.artifact_uri, key, ledger.tracking_uri)
        if outcome is not None:
            logged = ledger.logged_steps(run)
            unlogged = [
                (entry.metric, entry.step, entry.value, entry.timestamp)
                for entry in outcome.measurements
                if (entry.metric, entry.step) not in logged
            ]
            params = missing_params({**plan.nodes[key].params, **outcome.settled}, run)
            ledger.end_run(run.run_id, "FINISHED", closing_tags(outcome), unlogged, params)
    _end_strays(before, ledger)
    return standing(plan, ledger.runs(plan.study.name))


def _tell_apart(
    node: Node, run: RunRecord, ledger: LedgerWriter, renew: Callable[[], None]
) -> None:
    """Say of a finished run what tells it apart since its study has gained an axis."""
    unsaid = {name: value for name, value in node.settings.items() if name not in run.params}
    if unsaid:
        renew()
        ledger.log(run.run_id, unsaid, [])
    if run.name != node.name:
        renew()
        ledger.rename(run.run_id, node.name)


def _end_strays(stands: Standing, ledger: LedgerWriter) -> None:
    """End the runs that nobody will take up: of a dead driver, or of an opening asked for twice."""
    for run in stands.strays:
        ledger.end_run(run.run_id, "KILLED", {"rfray.error": "nobody works on it any more"})
