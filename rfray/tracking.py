"""MLflow, the ledger of every stage: the only module that imports it.

The reading half serves `rfray status` and `rfray analyze`, the writing half serves the driver,
which is the only writer of runs. The public schema of runs, tags, params, metrics and artifacts is
described in `docs/mlflow.md`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

from mlflow.artifacts import download_artifacts
from mlflow.entities import Run
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from rfray.errors import UserError, nearest

STUDY_TAG = "rfray.study"
"""Experiment tag that holds the study document (JSON), so that the analysis knows what was planned."""

_PAGE = 1000


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
        """The study as the driver recorded it (`name`, `axes`, `train`, …), or None if it did not."""
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

    def artifact(self, run: RunRecord, name: str) -> Path | None:
        """A local path to the artifact `name` of `run`, fetched if it lies elsewhere; None if absent."""
        local = local_path(run.artifact_uri)
        if local is not None:
            path = local / name
            return path if path.is_file() else None
        try:
            return Path(download_artifacts(f"{run.artifact_uri}/{name}", tracking_uri=self.tracking_uri))
        except (MlflowException, OSError):
            return None

    def _experiment(self, study: str) -> Any:
        experiment = self.client.get_experiment_by_name(study)
        if experiment is None or experiment.lifecycle_stage != "active":
            known = self.studies()
            advice = nearest(study, known) if known else "it holds no study yet: run a sweep first"
            raise UserError(f"no study '{study}'", where=self.tracking_uri, do=advice)
        return experiment


def local_path(uri: str) -> Path | None:
    """The folder that a `file:` URI or a plain path means; None if the URI lies elsewhere."""
    parsed = urlparse(uri)
    if parsed.scheme in ("", "file"):
        return Path(unquote(parsed.path))
    return None


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
