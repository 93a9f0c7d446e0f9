"""Samples that fall behind the others of their search: Tune's ASHA says which, a note stops them.

A sample ends by itself, with its artifacts and its record, once it finds the note beside its
checkpoint, where every machine sees it: so one that is interrupted later is still stopped.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rfray.engine.job import Job, Progress
from rfray.search.space import METRICS
from rfray.study.naming import SAMPLE

_NOTE = "stop"


def stopped(job: Job) -> bool:
    """Whether a job is to end with what it has."""
    return _note(job).exists()


@dataclass(frozen=True)
class _Trial:
    """What ASHA needs to know of a trial."""

    trial_id: str


class Stopping:
    """Hands what samples measure to one ASHA scheduler a search, and notes what it stops.

    Other jobs are never stopped, nor are samples of a search that has no scheduler. It knows of
    what it was told alone: a sweep that is started again compares with the samples that ran since.
    """

    def __init__(self) -> None:
        self._schedulers: dict[str, Any] = {}
        self._known: set[str] = set()

    def told(self, job: Job, progress: Progress) -> None:
        """Consider what a running job has just measured."""
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
