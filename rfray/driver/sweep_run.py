"""A whole sweep: find the missing runs, run them, record them."""

import subprocess
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from rich.console import Console

from rfray.driver.lease import study_held
from rfray.driver.taking import take_over
from rfray.driver.watch import say, watching
from rfray.engine import records
from rfray.engine.assemble import readers
from rfray.engine.drive import Driver
from rfray.engine.executor import Executor
from rfray.engine.frontier import Frontier, State
from rfray.engine.longer import longer_words
from rfray.engine.scribe import Scribe
from rfray.engine.standing import Standing, standing, taken_words
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
    """A sweep that is ready to start: nothing runs yet, and the ledger is up to date.

    Attributes:
        standing: Which runs of the plan the ledger holds.
        renew: Renews the lease; UserError if another driver has taken over.
        moved: Notes about studies whose artifacts were moved, in sentences.
        taken: Number of runs that were just taken over, by the study that computed them.
    """

    plan: Plan
    ledger: LedgerWriter
    standing: Standing
    renew: Callable[[], None]
    moved: list[str]
    taken: Mapping[str, int]

    @property
    def missing(self) -> int:
        """Number of nodes that are not done."""
        return len(self.plan.nodes) - len(self.standing.finished)


@contextmanager
def prepared(plan: Plan, storage: Storage) -> Iterator[Prepared]:
    """Hold the study of a plan, and end the runs that a dead driver left open.

    Raises:
        UserError: The storage cannot be written, the tracking store does not answer, or another
            sweep of this study runs.
    """
    with study_held(plan.study.name, storage) as held:
        ledger = held.ledger
        with store_answers(storage.tracking_uri):
            ledger.describe(records.study_document(plan), records.describe_study(plan))
            stands = _settled(plan, ledger, held.renew)
            taken = take_over(plan, stands, ledger, held.renew)
            if taken:
                stands = standing(plan, ledger.runs(plan.study.name))
        yield Prepared(
            plan, ledger, stands, held.renew, held.moved, Counter(filter(None, taken.values()))
        )


def run_sweep(
    sweep: Prepared,
    storage: Storage,
    make_executor: Callable[[], Executor],
    watcher: Watcher,
    stop: Callable[[], bool] = lambda: False,
) -> Frontier:
    """Run what is missing; returns the frontier, with the final state of each node.

    Raises:
        KeyboardInterrupt: `stop` returned True. Ended runs are kept, the others are KILLED.
        UserError: The tracking store refuses a request, or another driver has taken over.
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
    """Run what is missing of a plan and show the progress; the final state of each node, by key.

    Args:
        plan: What to run.
        storage: Where results go.
        make_executor: Joins or starts what runs the stages; called only if something is to run.
        console: Where to show the progress.
        stop: Whether the user wants to interrupt.
        check_data: Called before `make_executor` with the names of the data sets to be read; raises
            UserError if one cannot be read.

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
        for words in chain(_again_words(ready), _longer_words(ready, storage)):
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
        f"{name}: runs done: {states[State.DONE]}, failed: {states[State.FAILED]}, skipped because "
        f"they read a failed one: {states[State.SKIPPED]}. The tag rfray.error of each failed run "
        "says why. The same command tries them again.",
    )
    return dict(frontier.states)


def _longer_words(ready: Prepared, storage: Storage) -> Iterator[str]:
    """Which trainings continue shorter ones."""
    missing = (node for key, node in ready.plan.nodes.items() if key not in ready.standing.finished)
    return longer_words(missing, storage.checkpoints, ready.standing.outside)


def _again_words(ready: Prepared) -> Iterator[str]:
    """Which finished runs are computed again, because their deleted weights are needed."""
    names = [ready.plan.nodes[key].name for key in ready.standing.again]
    if names:
        lack = "finished run lacks" if len(names) == 1 else "finished runs lack"
        yield (
            f"{len(names)} {lack} weights that are needed again, and will be computed again: "
            f"{in_short(names)}. (rfray clean deleted the weights, or the imported archive did not "
            "hold them; importing an archive that holds them brings them back.) On a CPU the new "
            "weights have the same bits; on a GPU without train.deterministic the last bits may "
            "differ"
        )


def _datasets_to_read(ready: Prepared) -> list[str]:
    nodes, finished = ready.plan.nodes, ready.standing.finished
    names = dict.fromkeys(node.cells[0].dataset for node in nodes.values())
    return [n for n in names if any(key not in finished for key in readers(ready.plan, n))]


def git_state() -> str:
    """Commit of rfray's checkout, followed by `-dirty` if changed; `unknown` outside a checkout."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        answer = subprocess.run(
            command, cwd=Path(__file__).parent, capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return answer.stdout.strip()


def _settled(plan: Plan, ledger: LedgerWriter, renew: Callable[[], None]) -> Standing:
    """The standing of a plan after the runs that a dead driver left open are settled.

    A run whose artifacts are complete becomes FINISHED. The others are taken up by this driver.
    """
    before = standing(plan, ledger.runs(plan.study.name))
    for key, run in before.finished.items():
        _update_name(plan.nodes[key], run, ledger, renew)
    if not before.unfinished and not before.strays:
        return before
    for key, run in before.unfinished.items():
        renew()
        outcome = published_outcome(run.artifact_uri, key, ledger.tracking_uri)
        if outcome is not None:
            measured = records.missing_measurements(outcome, ledger.logged_steps(run))
            params = records.missing_params({**plan.nodes[key].params, **outcome.settled}, run)
            ledger.end_run(run.run_id, "FINISHED", records.closing_tags(outcome), measured, params)
    _end_strays(before, ledger)
    return standing(plan, ledger.runs(plan.study.name))


def _update_name(
    node: Node, run: RunRecord, ledger: LedgerWriter, renew: Callable[[], None]
) -> None:
    """Give a finished run the settings and the name that it has since an axis was added."""
    missing = records.missing_params(node.settings, run)
    if missing:
        renew()
        ledger.log(run.run_id, missing, [])
    if run.name != node.name:
        renew()
        ledger.rename(run.run_id, node.name)


def _end_strays(stands: Standing, ledger: LedgerWriter) -> None:
    """End runs that no driver takes up: of a dead driver, or created twice by a lost answer."""
    for run in stands.strays:
        ledger.end_run(run.run_id, "KILLED", {"rfray.error": "its driver has ended"})
