"""MLflow, the ledger of every stage: the only module that imports it.

The reading half serves `rfray status` and `rfray analyze`, the writing half serves the driver,
which is the only writer of runs. The public schema of runs, tags, params, metrics and artifacts is
described in `docs/mlflow.md`.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import zip_longest
from pathlib import Path
from typing import Any, TypeVar

import requests
import tenacity
from filelock import FileLock
from mlflow.artifacts import download_artifacts, list_artifacts
from mlflow.entities import Metric, Param, Run, RunTag
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from rfray import chatter
from rfray.artifacts import local_path
from rfray.errors import UserError, nearest

STUDY_TAG = "rfray.study"
"""Experiment tag that holds the study document (JSON): what was planned."""

_EXPERIMENT_KIND = ("mlflow.experimentKind", "custom_model_development")
"""Has MLflow's pages show training runs, not the traces of language models."""

_PAGE = 1000
_METRICS_A_BATCH = 800  # MLflow takes 1,000 metrics, params and tags together
_PARAMS_A_BATCH = 100
_LONGEST_TAG = 5000
_SERVER_ERROR = 500
_WAIT_LONGER_STATUS = (408, 429)
_WORKER_PATIENCE_SECONDS = 3600
_LONGEST_PAUSE_SECONDS = 5

T = TypeVar("T")

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
        """The study as the driver recorded it (`name`, `axes`, …), or None if it did not.

        Raises:
            UserError: There is no such study, or its document is no JSON object.
        """
        text = self._experiment(study).tags.get(STUDY_TAG)
        if not text:
            return None
        try:
            document = json.loads(text)
        except json.JSONDecodeError:
            document = None
        if not isinstance(document, dict):
            raise UserError(
                "the study document is no JSON object",
                where=f"experiment tag {STUDY_TAG} of '{study}'",
                do="start the sweep again, which writes it anew",
            )
        return document

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
        with store_answers(self.tracking_uri):
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

    No method tries twice: whoever calls decides how long to wait for a store that is away.

    Args:
        tracking_uri: As for `Ledger`.
        study: Name of the study; its experiment is made if there is none.
        artifact_root: URI of the folder for a new experiment's artifacts; None leaves the choice
            to the tracking server.

    Raises:
        UserError: The experiment was deleted.
    """

    def __init__(self, tracking_uri: str, study: str, artifact_root: str | None) -> None:
        _leave_retries_to_rfray()
        super().__init__(tracking_uri)
        self.study = study
        if self.client.get_experiment_by_name(study) is None:
            self._create_experiment(f"{artifact_root}/{study}" if artifact_root else None)
        experiment = self.client.get_experiment_by_name(study)
        if experiment.lifecycle_stage != "active":
            raise UserError(
                f"the experiment '{study}' was deleted",
                where=tracking_uri,
                do="restore it with `mlflow experiments restore`, or give the study another name",
            )
        self._id = experiment.experiment_id

    def _create_experiment(self, location: str | None) -> None:
        try:
            self.client.create_experiment(self.study, artifact_location=location)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":  # made by another in the meantime
                raise

    def describe(self, document: Mapping[str, Any]) -> None:
        """Record the study, JSON-ready, as what was planned."""
        self.client.set_experiment_tag(self._id, STUDY_TAG, json.dumps(document))
        self.client.set_experiment_tag(self._id, *_EXPERIMENT_KIND)

    def note(self, name: str) -> str:
        """A tag of the study's experiment; empty if there is none."""
        text: str = self.client.get_experiment(self._id).tags.get(name, "")
        return text

    def set_note(self, name: str, text: str) -> None:
        """Set a tag of the study's experiment."""
        self.client.set_experiment_tag(self._id, name, text)

    def running(self, tag: str, value: str) -> RunRecord | None:
        """The run that started last among those that are RUNNING and bear a tag, if there is one.

        A request whose answer was lost may have made one.
        """
        found = self.client.search_runs(
            [self._id],
            filter_string=f"tags.`{tag}` = '{value}' and attributes.status = 'RUNNING'",
            max_results=1,
            order_by=["attributes.start_time DESC"],
        )
        return _record(found[0]) if found else None

    def open_run(self, opening: RunOpening) -> RunRecord:
        """Create a run that is RUNNING, with its tags; its params are yet to be logged."""
        run = self.client.create_run(self._id, run_name=opening.name, tags=dict(opening.tags))
        return _record(run)

    def reopen_run(self, run: RunRecord, opening: RunOpening) -> RunRecord:
        """Take up a run that an earlier attempt left unfinished."""
        self.client.update_run(run.run_id, status="RUNNING")
        self.client.log_batch(run.run_id, tags=_tags(opening.tags))
        return replace(run, status="RUNNING", tags={**run.tags, **opening.tags})

    def log(
        self,
        run_id: str,
        params: Mapping[str, Any],
        measurements: Sequence[Measured],
        tags: Mapping[str, str] | None = None,
    ) -> None:
        """Write params, measurements and tags of a run, in as few requests as MLflow allows.

        Each request costs the store a transaction.

        Args:
            run_id: The run.
            params: Those that it does not hold yet.
            measurements: `(metric, step, value, milliseconds since the epoch)`.
            tags: At most 100.
        """
        metrics = [Metric(name, value, time, step) for name, step, value, time in measurements]
        batches = zip_longest(
            _pieces([Param(name, str(value)) for name, value in params.items()], _PARAMS_A_BATCH),
            _pieces(metrics, _METRICS_A_BATCH),
            [_tags(tags)] if tags else [],
            fillvalue=(),
        )
        for some_params, some_metrics, some_tags in batches:
            self.client.log_batch(run_id, params=some_params, metrics=some_metrics, tags=some_tags)

    def end_run(
        self,
        run_id: str,
        status: str,
        tags: Mapping[str, str],
        measurements: Sequence[Measured] = (),
        params: Mapping[str, Any] | None = None,
    ) -> None:
        """Write what is still to be written of a run, then end it FINISHED, FAILED or KILLED."""
        self.log(run_id, params or {}, measurements, tags)
        self.client.set_terminated(run_id, status=status)


def _pieces(entries: Sequence[T], length: int) -> list[Sequence[T]]:
    return [entries[start : start + length] for start in range(0, len(entries), length)]


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
        raise _store_error(error, tracking_uri) from error


@contextmanager
def store_answers(tracking_uri: str) -> Iterator[None]:
    """Turn what goes wrong between rfray and the tracking store into a UserError."""
    try:
        yield
    except (MlflowException, requests.RequestException) as error:
        raise _store_error(error, tracking_uri) from error


def _store_error(error: Exception, tracking_uri: str) -> UserError:
    if is_outage(error) or not isinstance(error, MlflowException):
        what, do = "does not answer", "check the address, and that the server runs"
    else:
        what, do = "refuses a request", "mend what it says, then give the same command again"
    return UserError(f"the tracking store {what}: {first_line(error)}", where=tracking_uri, do=do)


def is_outage(error: BaseException) -> bool:
    """Whether a call failed in a way that waiting may mend.

    No answer, an answer too late, a server's error of its own, a locked database, a full disk
    behind it: yes. A request that the store understood and refuses: no.
    """
    if isinstance(error, MlflowException):
        status = error.get_http_status_code()
    elif isinstance(error, requests.RequestException):
        if error.response is None:
            return True
        status = error.response.status_code
    else:
        return False
    return bool(status >= _SERVER_ERROR or status in _WAIT_LONGER_STATUS)


def through_outages(call: Callable[[], T]) -> T:
    """A worker's transfer of artifacts, tried again for an hour while the store is away."""
    _leave_retries_to_rfray()
    patient = tenacity.Retrying(
        retry=tenacity.retry_if_exception(is_outage),
        wait=tenacity.wait_random_exponential(max=_LONGEST_PAUSE_SECONDS),
        stop=tenacity.stop_after_delay(_WORKER_PATIENCE_SECONDS),
        reraise=True,
    )
    return patient(call)


def _leave_retries_to_rfray() -> None:
    """MLflow's own retries block for minutes, and cannot know that a run was made already."""
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")


def _quiet() -> None:
    """MLflow and alembic tell of every table that they make; MLflow also tells its makers."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    logging.getLogger("alembic").setLevel(chatter.level(logging.WARNING))
    logging.getLogger("mlflow").setLevel(chatter.level(logging.ERROR))
    # A locked database is waited for and told of by whoever called.
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)


def fetch_artifact(artifact_uri: str, name: str, tracking_uri: str) -> Path | None:
    """Local path of one artifact of a run, downloaded if it lies elsewhere; None if absent."""
    local = local_path(artifact_uri)
    if local is not None:
        return local / name if (local / name).is_file() else None
    there = list_artifacts(artifact_uri=artifact_uri, tracking_uri=tracking_uri)
    if name not in {Path(entry.path).name for entry in there}:
        return None
    return Path(download_artifacts(f"{artifact_uri}/{name}", tracking_uri=tracking_uri))


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
