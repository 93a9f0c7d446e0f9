"""Stopping of samples that fall behind the others of their search, by Tune's ASHA scheduler.

To stop a sample, a note is written next to its checkpoint, where every machine sees it. When the
sample finds the note, it ends with its artifacts and metrics. A sample that is interrupted and
started again still finds it.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rfray.engine.job import Job, Progress
from rfray.search.space import METRICS
from rfray.study.naming import SAMPLE

_NOTE = "stop"


def stopped(job: Job) -> bool:
    """Whether a job must end now, with the results it has."""
    return _note(job).exists()


@dataclass(frozen=True)
class _Trial:
    """What ASHA needs to know of a trial."""

    trial_id: str


class Stopping:
    """Gives the metrics of samples to an ASHA scheduler, one per search, and writes the notes.

    Other jobs are never stopped, nor are samples of a search without a scheduler. It knows only the
    metrics of this process: a sweep that is started again does not compare with earlier samples.
    """

    def __init__(self) -> None:
        self._schedulers: dict[str, Any] = {}
        self._known: set[str] = set()

    def told(self, job: Job, progress: Progress) -> None:
        """Take new metrics of a running job."""
        if job.stage != SAMPLE or job.parameters["scheduler"] != "asha":
            return
        metric = job.parameters["metric"]
        for measured in progress.measurements:
            if measured.metric == metric and self._falls_behind(job, measured.step, measured.value):
                _note(job).touch()

    def _falls_behind(self, job: Job, epoch: int, value: float) -> bool:
        from ray.tune.schedulers import TrialScheduler

        scheduler, trial = self._scheduler(job), _Trial(job.key)
        if job.key not in self._known:
            self._known.add(job.key)
            scheduler.on_trial_add(None, trial)
        result = {"epoch": epoch, job.parameters["metric"]: value}
        decision = scheduler.on_trial_result(None, trial, result)
        return bool(decision == TrialScheduler.STOP)

    def _scheduler(self, job: Job) -> Any:
        from ray.tune.schedulers import ASHAScheduler

        search = job.name.rpartition("/")[0]
        if search not in self._schedulers:
            metric = job.parameters["metric"]
            self._schedulers[search] = ASHAScheduler(
                time_attr="epoch",
                metric=metric,
                mode=METRICS[metric],
                max_t=job.parameters["epochs"],
                stop_last_trials=False,
            )
        return self._schedulers[search]


def _note(job: Job) -> Path:
    return Path(job.checkpoint) / _NOTE
