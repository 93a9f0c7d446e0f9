"""Training cells, and the samples of searches, as Ray Tune trials.

The driver decides when a cell may start; Tune makes it a trial. A search algorithm that hands out
what the driver has released, and nothing while there is nothing, joins the two: so no pending trial
ever competes with the stages that follow training for a slot.

A trial's process is kept for the next trial, for starting one costs seconds. It keeps its slot with
it, so when the driver gives the slot to another stage instead, the process has to go. Tune drops
the process that it keeps once its search is over; the search algorithm here therefore says that it
is over, for one step of Tune's loop, when the driver wants the slot and a process is idle. (A trial
that ends in such a step loses its process too, and the next one has to wait for a new one.) Where
no other trial keeps Tune running (between the last sample of a search and the training that waits
for it) Tune ends, and the next trial that is released has it begin anew.

Tune pickles searchers and callbacks into its state, so neither may hold a queue: they find the one
of their sweep by name in this process.
"""

import logging
import os
import threading
from collections import Counter, deque
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from queue import SimpleQueue
from textwrap import shorten
from typing import Any

from ray import tune
from ray.tune.search import Searcher
from ray.tune.search.search_generator import SearchGenerator

from rfray.engine.answer import answered, lost
from rfray.engine.executor import Ended, Event, Progressed
from rfray.engine.job import Job, Progress
from rfray.engine.places import Occupancy
from rfray.engine.progress import read_progress
from rfray.engine.stopping import Stopping
from rfray.engine.worker import run_job
from rfray.errors import LostProcessError
from rfray.study import Request
from rfray.terminal import chatter


@dataclass
class _Exchange:
    """What the driver's thread and Tune's thread share.

    Attributes:
        events: From Tune to the driver.
        released: Cells that may start.
        closed: No cell will be released any more.
        slot_wanted: An idle trial's slot is to be given up.
        idle: A trial has ended, and its process may wait for a next one; Tune's thread alone
            changes it.
        dropping: Tune drops idle processes in this step of its loop; its thread alone uses it.
        awaited: Key of the trial whose end Tune's thread has the driver act on before it goes on.
        decided: The driver has acted on it.
        retries: How often each may be started anew; not counted where a machine leaves in order.
        losses: How often each lost its process, by key; Tune's thread alone changes it.
        stopping: Which samples are to end early; Tune's thread alone asks it.
    """

    events: SimpleQueue[Event | None]
    retries: int
    released: deque[tuple[Job, Occupancy]] = field(default_factory=deque)
    closed: threading.Event = field(default_factory=threading.Event)
    slot_wanted: threading.Event = field(default_factory=threading.Event)
    idle: bool = False
    dropping: bool = False
    awaited: str = ""
    decided: threading.Event = field(default_factory=threading.Event)
    losses: Counter[str] = field(default_factory=Counter)
    stopping: Stopping = field(default_factory=Stopping)


_DECISION_SECONDS = 0.5
_NEVER_SECONDS = 10**9
_MOST_PENDING = 10_000

# Ray's words for the end of a node that was told to go. Of a process that runs there, Ray says that
# it was preempted, and Tune starts its trial anew; of one that still starts, it says this.
_LEFT_IN_ORDER = "node was terminated expectedly"

_EXCHANGES: dict[str, _Exchange] = {}


def run_trial(config: dict[str, Any]) -> None:
    """The trainable: run one job, report what it tells, and last of all the outcome."""
    job = Job.model_validate_json(config["job"])

    def report(progress: Progress) -> None:
        tune.report({"progress": progress.model_dump_json()})

    try:
        outcome = run_job(job, report)
    except LostProcessError as error:
        # Tune does not pass on what it was raised with.
        tune.report({"lost": str(error)})
        raise
    tune.report({"outcome": outcome.model_dump_json()})


class _Releases(Searcher):  # type: ignore[misc]
    """Hands Tune the cells that the driver has released, in their order."""

    def __init__(self, exchange: str) -> None:
        super().__init__()
        self.exchange = exchange

    def suggest(self, trial_id: str) -> dict[str, Any] | None:
        """The next cell's configuration, or nothing for now."""
        del trial_id
        shared = _EXCHANGES[self.exchange]
        if not shared.released:
            return None
        job, occupancy = shared.released.popleft()
        shared.idle = False
        return {
            "name": job.name,
            "key": job.key,
            "job": job.model_dump_json(),
            "takes": {"CPU": occupancy.cpus, "GPU": occupancy.gpus},
        }

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Nothing to learn from a result: this search has no objective."""

    def save(self, checkpoint_path: str) -> None:
        """Nothing to save: MLflow is the ledger."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing to restore."""


class _Search(SearchGenerator):  # type: ignore[misc]
    """Tune's wrapper around `_Releases`, which also decides when the search is over."""

    def is_finished(self) -> bool:
        """Whether Tune may end, or may drop the idle process that it keeps for a next trial."""
        shared = _EXCHANGES[self.searcher.exchange]
        # Read before the queue: a job released just before closing must not be left behind.
        over = shared.closed.is_set() or shared.slot_wanted.is_set()
        return over and not shared.released


class _Reports(tune.Callback):  # type: ignore[misc]
    """Passes on what trials report; never blocks Tune's loop for long, never raises into it."""

    def __init__(self, exchange: str) -> None:
        self.exchange = exchange

    def on_step_begin(self, iteration: int, trials: Any, **_: Any) -> None:
        """Tune's loop begins a step, at whose end it drops idle processes if the search is over."""
        shared = _EXCHANGES[self.exchange]
        shared.dropping = shared.slot_wanted.is_set()

    def on_step_end(self, iteration: int, trials: Any, **_: Any) -> None:
        """Where the search was over for a whole step, no process is idle any more: it goes on."""
        shared = _EXCHANGES[self.exchange]
        if shared.dropping and shared.slot_wanted.is_set():
            shared.idle = False
            shared.slot_wanted.clear()

    def on_trial_result(
        self, iteration: int, trials: Any, trial: Any, result: Any, **_: Any
    ) -> None:
        """A trial tells how far it is."""
        text = result.get("progress")
        if text:
            progress = read_progress(text)
            shared = _EXCHANGES[self.exchange]
            # Tune has the trial wait for this: its next epoch does not begin before.
            shared.stopping.told(_job(trial), progress)
            shared.events.put(Progressed(trial.config["key"], progress))

    def on_trial_complete(self, iteration: int, trials: Any, trial: Any, **_: Any) -> None:
        """A trial has returned; the driver decides what its slot is for.

        Tune keeps one idle process. Trials that end together would lose theirs if the next trial of
        the first one were not released before Tune looks at the second one.
        """
        shared = _EXCHANGES[self.exchange]
        shared.idle = True
        shared.awaited = trial.config["key"]
        shared.decided.clear()
        job, text = _job(trial), (trial.last_result or {}).get("outcome")
        shared.events.put(Ended(answered(job, text) if text else lost(job, "it gave no outcome")))
        _forget(trial)
        shared.decided.wait(_DECISION_SECONDS)

    def on_trial_error(self, iteration: int, trials: Any, trial: Any, **_: Any) -> None:
        """A trial's process has died: start the trial anew, if it may be."""
        shared, job, error = _EXCHANGES[self.exchange], _job(trial), _last_error(trial)
        shared.losses[job.key] += _LEFT_IN_ORDER not in error
        if shared.losses[job.key] <= shared.retries:
            takes = trial.config["takes"]
            shared.released.append((job, Occupancy(takes["CPU"], takes["GPU"])))
            return
        reason = (trial.last_result or {}).get("lost")
        reason = reason or f"the trial's process was lost: {shorten(error.splitlines()[-1], 400)}"
        shared.events.put(Ended(lost(job, reason)))


class TrialLane:
    """A running Tune experiment, fed trial by trial from the driver's thread.

    Args:
        name: Of the study.
        storage: Folder for Tune's own records.
        request: The memory that each trial reserves, and how often it is started anew.
        events: Where to tell what happens.
    """

    def __init__(
        self, name: str, storage: Path, request: Request, events: SimpleQueue[Event | None]
    ) -> None:
        self._name = name
        self._exchange = _EXCHANGES[name] = _Exchange(events, request.retries)
        os.environ["TUNE_DISABLE_AUTO_CALLBACK_LOGGERS"] = "1"
        os.environ["TUNE_DISABLE_SIGINT_HANDLER"] = "1"
        # Tune starts one process at a time, and hands the process of a trial that ends to the one
        # that waits for its own: where trials are short a second slot would never come into use.
        # The driver releases no more than fits.
        os.environ["TUNE_MAX_PENDING_TRIALS_PG"] = str(_MOST_PENDING)
        # MLflow is the ledger: nothing is ever restored from Tune's own state of all trials.
        os.environ["TUNE_GLOBAL_CHECKPOINT_S"] = str(_NEVER_SECONDS)
        os.environ["RAY_AIR_NEW_OUTPUT"] = "0"  # whose banner `verbose=0` does not silence
        # A trial that is started anew is no news; one that fails says so in its run.
        logging.getLogger("ray.tune").setLevel(chatter.level(logging.CRITICAL))
        self._make_tuner: Callable[[], Any] = lambda: tune.Tuner(
            tune.with_resources(
                run_trial, lambda config: _bundle(**config["takes"], memory=request.memory or 0)
            ),
            tune_config=tune.TuneConfig(
                search_alg=_Search(_Releases(name)),
                num_samples=-1,
                reuse_actors=True,
                trial_name_creator=_trial_name,
                trial_dirname_creator=_trial_name,
            ),
            run_config=tune.RunConfig(
                name=name,
                storage_path=str(storage),
                verbose=0,
                # In a notebook Tune would choose one that clears what the cell has shown.
                progress_reporter=tune.CLIReporter(),
                callbacks=[_Reports(name)],
            ),
        )
        self._lock = threading.Lock()
        self._fitting = False
        self._failure: Exception | None = None

    def release(self, job: Job, occupancy: Occupancy) -> None:
        """Let Tune start a cell, which takes so much."""
        with self._lock:
            self._exchange.slot_wanted.clear()
            self._exchange.released.append((job, occupancy))
            if not self._fitting:
                self._fitting = True
                threading.Thread(target=self._fit, name="rfray-tune", daemon=True).start()

    def give_up_idle_slot(self) -> None:
        """Have Tune drop the process that it keeps for a next trial, if it keeps one."""
        if self._exchange.idle:
            self._exchange.slot_wanted.set()

    def acted_on(self, ended: Collection[str]) -> None:
        """The driver has acted on the ends of these jobs, given by their keys."""
        if self._exchange.awaited in ended:
            self._exchange.decided.set()

    def close(self) -> None:
        """No cell will follow: Tune ends with the last trial."""
        self._exchange.closed.set()

    @property
    def failure(self) -> Exception | None:
        """What stopped Tune itself, if anything did."""
        return self._failure

    def _fit(self) -> None:
        try:
            while self._fitting:
                self._make_tuner().fit()
                with self._lock:  # what was released as Tune ended is for the next one
                    self._fitting = bool(self._exchange.released)
        except Exception as error:  # noqa: BLE001 (told to the driver's thread, which raises it)
            self._failure = error


def _forget(trial: Any) -> None:
    """Drop what Tune keeps of a trial that has ended, until Tune ends: nobody reads it."""
    kept = trial.run_metadata
    statistics = kept.metric_analysis, kept.metric_n_steps
    for values in (trial.config, trial.evaluated_params, kept.last_result, *statistics):
        values.clear()
    # Tune says aloud that a trial has ended if its result holds nothing to be said of it.
    kept.last_result["outcome"] = "told"
    trial.set_experiment_tag("")  # made of all of the configuration
    trial._default_result_or_future = None  # a reference that keeps an object in Ray's memory


@cache
def _bundle(**takes: float) -> tune.PlacementGroupFactory:
    return tune.PlacementGroupFactory([takes])


def _last_error(trial: Any) -> str:
    # What Tune offers to read it looks in the storage folder, where it is only later.
    text = Path(trial.error_file).read_text(encoding="utf-8")
    return text.rpartition("Failure # ")[2].strip()


def _job(trial: Any) -> Job:
    return Job.model_validate_json(trial.config["job"])


def _trial_name(trial: Any) -> str:
    return str(trial.config["name"]).replace("/", "-")
