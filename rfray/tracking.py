"""MLflow, the ledger of every stage: the only module that imports it.

The reading half serves `rfray status` and `rfray analyze`, the writing half serves the driver,
which is the only writer of runs. The public schema of runs, tags, params, metrics and artifacts is
described in `docs/mlflow.md`.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from filelock import FileLock
from mlflow.artifacts import download_artifacts
from mlflow.entities import Metric, Param, Run, RunTag
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from rfray.artifacts import local_path
from rfray.errors import UserError, nearest

STUDY_TAG = "rfray.study"
"""Experiment tag that holds the study document (JSON): what was planned."""

_EXPERIMENT_KIND = ("mlflow.experimentKind", "custom_model_development")
"""Has MLflow's pages show training runs, not the traces of language models."""

_PAGE = 1000
_METRICS_A_BATCH = 1000
_PARAMS_A_BATCH = 100
_LONGEST_TAG = 5000

Measured = tuple[str, int, float, int]
"""Metric, step, value, milliseconds since the epoch."""


@dataclass(frozen=True)
class RunOpening:
    """What a run is made of before its stage starts."""

    name: str
    tags: Mapping[str, str]
    params: Mapping[str, Any]


@dataclass(frozen=True)
class RunRecord:
    """One MLflow run as plain data: one stage of a study.

    Attributes:
        run_id: MLflow's identifier.
        name: Run name, such as `vgg19_rf-cifar10-k3-seed0/train`.
        status: RUNNING, FINISHED, FAILED, KILLED or SCHEDULED.
        start_time: Milliseconds since the epoch.
        end_time: Milliseconds since the epoch; None while it runs.
        artifact_uri: Where its artifacts lie.
        tags: All tags.
        params: All params, as the strings that MLflow keeps.
        metrics: The latest value of each metric.
    """

    run_id: str
    name: str
    status: str
    start_time: int
    end_time: int | None
    artifact_uri: str
    tags: dict[str, str]
    params: dict[str, str]
    metrics: dict[str, float]


class Ledger:
    """Reads studies from an MLflow tracking store.

    Args:
        tracking_uri: An absolute MLflow tracking URI (`sqlite:////abs/mlflow.db`, `http://…`).
    """

    def __init__(self, tracking_uri: str) -> None:
        self.tracking_uri = tracking_uri
        self.client = MlflowClient(tracking_uri=tracking_uri)

    def studies(self) -> list[str]:
        """Names of the experiments in the store that hold at least one rfray run or study."""
        names: list[str] = []
        token: str | None = None
        while True:
            page = self.client.search_experiments(max_results=_PAGE, page_token=token)
            names += [experiment.name for experiment in page if experiment.name != "Default"]
            token = page.token
            if not token:
                return sorted(names)

    def study_document(self, study: str) -> dict[str, Any] | None:
        """The study as the driver recorded it (`name`, `axes`, …), or None if it did not."""
        text = self._experiment(study).tags.get(STUDY_TAG)
        return json.loads(text) if text else None

    def experiment_id(self, study: str) -> str:
        """MLflow's identifier of the study's experiment; UserError if there is none."""
        identifier: str = self._experiment(study).experiment_id
        return identifier

    def runs(self, study: str) -> Iterator[RunRecord]:
        """Every run of the study that is not deleted, oldest first; UserError if it is unknown."""
        experiment_id = self.experiment_id(study)
        token: str | None = None
        while True:
            page = self.client.search_runs(
                [experiment_id],
                max_results=_PAGE,
                page_token=token,
                order_by=["attributes.start_time ASC"],
            )
            yield from (_record(run) for run in page)
            token = page.token
            if not token:
                return

    def metric_history(self, run_id: str, metric: str) -> list[tuple[int, float]]:
        """(step, value) of one metric of one run, ordered by step."""
        history = self.client.get_metric_history(run_id, metric)
        return sorted((entry.step, entry.value) for entry in history)

    def logged_steps(self, run: RunRecord) -> set[tuple[str, int]]:
        """Every (metric, step) that an earlier attempt at `run` has logged."""
        return {
            (metric, step)
            for metric in run.metrics
            for step, _ in self.metric_history(run.run_id, metric)
        }

    def latest_study(self) -> str:
        """The study whose run started last; UserError if the store holds no run."""
        experiments = {e.experiment_id: e.name for e in self.client.search_experiments()}
        found = self.client.search_runs(
            list(experiments), max_results=1, order_by=["attributes.start_time DESC"]
        )
        if not found:
            raise UserError("it holds no run yet", where=self.tracking_uri, do="run a sweep first")
        return str(experiments[found[0].info.experiment_id])

    def artifact(self, run: RunRecord, name: str) -> Path | None:
        """Local path of the artifact `name`, fetched if it lies elsewhere; None if absent."""
        return fetch_artifact(run.artifact_uri, name, self.tracking_uri)

    def _experiment(self, study: str) -> Any:
        experiment = self.client.get_experiment_by_name(study)
        if experiment is None or experiment.lifecycle_stage != "active":
            known = self.studies()
            advice = nearest(study, known) if known else "it holds no study yet: run a sweep first"
            raise UserError(f"no study '{study}'", where=self.tracking_uri, do=advice)
        return experiment


class LedgerWriter(Ledger):
    """Writes runs; only the driver holds one.

    Args:
        tracking_uri: As for `Ledger`.
        study: Name of the study; its experiment is made if there is none.
        document: The study as JSON-ready data.
        artifact_root: URI of the folder for a new experiment's artifacts; None leaves the choice
            to the tracking server.
    """

    def __init__(
        self, tracking_uri: str, study: str, document: Mapping[str, Any], artifact_root: str | None
    ) -> None:
        super().__init__(tracking_uri)
        experiment = self.client.get_experiment_by_name(study)
        if experiment is None:
            location = f"{artifact_root}/{study}" if artifact_root else None
            self._id = self.client.create_experiment(study, artifact_location=location)
        else:
            self._id = experiment.experiment_id
        self.client.set_experiment_tag(self._id, STUDY_TAG, json.dumps(document))
        self.client.set_experiment_tag(self._id, *_EXPERIMENT_KIND)

    def open_run(self, opening: RunOpening) -> RunRecord:
        """Create a run that is RUNNING, with its tags and params."""
        run = self.client.create_run(self._id, run_name=opening.name, tags=dict(opening.tags))
        params = [Param(name, str(value)) for name, value in opening.params.items()]
        for start in range(0, len(params), _PARAMS_A_BATCH):
            self.client.log_batch(run.info.run_id, params=params[start : start + _PARAMS_A_BATCH])
        return _record(run)

    def reopen_run(self, run: RunRecord, opening: RunOpening) -> RunRecord:
        """Take up a run that an earlier attempt left unfinished; its params stay as they are."""
        self.client.update_run(run.run_id, status="RUNNING")
        self.client.log_batch(run.run_id, tags=_tags(opening.tags))
        return replace(run, status="RUNNING", tags={**run.tags, **opening.tags})

    def log_metrics(self, run_id: str, measurements: Sequence[Measured]) -> None:
        """Write measurements, `(metric, step, value, milliseconds since the epoch)`, in batches."""
        for start in range(0, len(measurements), _METRICS_A_BATCH):
            batch = measurements[start : start + _METRICS_A_BATCH]
            self.client.log_batch(
                run_id,
                metrics=[Metric(name, value, time, step) for name, step, value, time in batch],
            )

    def end_run(self, run_id: str, status: str, tags: Mapping[str, str]) -> None:
        """Write tags, then end the run as FINISHED, FAILED or KILLED."""
        self.client.log_batch(run_id, tags=_tags(tags))
        self.client.set_terminated(run_id, status=status)


def make_database(path: Path) -> None:
    """Make the embedded sqlite store at `path` if there is none, whole or not at all.

    MLflow's own first start is not atomic: two processes that race, or one that is killed, leave
    tables that no later start can use. So it starts on a file of another name.
    """
    with FileLock(path.with_suffix(".lock")):
        if path.is_file():
            return
        partial = path.with_suffix(".partial")
        partial.unlink(missing_ok=True)
        _quiet()
        MlflowClient(tracking_uri=f"sqlite:///{partial}").search_experiments(max_results=1)
        partial.replace(path)


def check_store(tracking_uri: str) -> None:
    """UserError if the tracking store does not answer."""
    _quiet()
    try:
        MlflowClient(tracking_uri=tracking_uri).search_experiments(max_results=1)
    except (MlflowException, OSError) as error:
        raise UserError(
            f"the tracking store does not answer: {first_line(error)}",
            where=tracking_uri,
            do="check the address, and that the server runs",
        ) from error


def _quiet() -> None:
    """MLflow and alembic tell of every table that they make; MLflow also tells its makers."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    logging.getLogger("alembic").setLevel(logging.WARNING)
    logging.getLogger("mlflow").setLevel(logging.ERROR)


def fetch_artifact(artifact_uri: str, name: str, tracking_uri: str) -> Path | None:
    """Local path of one artifact of a run, downloaded if it lies elsewhere; None if absent."""
    local = local_path(artifact_uri)
    if local is not None:
        return local / name if (local / name).is_file() else None
    try:
        return Path(download_artifacts(f"{artifact_uri}/{name}", tracking_uri=tracking_uri))
    except (MlflowException, OSError):
        return None


def fetch_artifacts(artifact_uri: str, tracking_uri: str) -> Path:
    """Download a run's artifacts to a new local folder."""
    return Path(download_artifacts(artifact_uri, tracking_uri=tracking_uri))


def send_artifacts(folder: Path, run_id: str, tracking_uri: str) -> None:
    """Upload every file of a local folder to a run's artifact location."""
    MlflowClient(tracking_uri=tracking_uri).log_artifacts(run_id, str(folder))


def first_line(error: Exception) -> str:
    """An exception's first line, or its type where it says nothing."""
    return (str(error).splitlines() or [type(error).__name__])[0]


def _tags(tags: Mapping[str, str]) -> list[RunTag]:
    return [RunTag(name, value[:_LONGEST_TAG]) for name, value in tags.items()]


def _record(run: Run) -> RunRecord:
    return RunRecord(
        run_id=run.info.run_id,
        name=run.info.run_name,
        status=run.info.status,
        start_time=run.info.start_time,
        end_time=run.info.end_time,
        artifact_uri=run.info.artifact_uri,
        tags=dict(run.data.tags),
        params=dict(run.data.params),
        metrics=dict(run.data.metrics),
    )
