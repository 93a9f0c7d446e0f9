"""Reads studies from an MLflow tracking store."""

from __future__ import annotations

import json
from collections.abc import Container, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlflow.entities import Experiment, ViewType
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient
from mlflow.utils import get_results_from_paginated_fn

from rfray.errors import UserError, nearest
from rfray.tracking import records
from rfray.tracking.places import Home, database_file, home_of, is_there, present_address
from rfray.tracking.store import spare_the_delay, store_answers
from rfray.tracking.transaction import database_store
from rfray.tracking.transfers import fetch_artifact

if TYPE_CHECKING:
    from rfray.tracking.rows import Rows

STUDY_TAG = "rfray.study"
"""Experiment tag with the study document (JSON) of the last plan."""

_PAGE = 1000
_RUNS_AT_ONCE = 500  # below the limit of a database for parameters of a query
_NO_LIMIT = 2**31 - 1
_REQUESTS_AT_ONCE = 8


class Ledger:
    """Reads studies from an MLflow tracking store; writes nothing.

    The artifact addresses that it returns are valid now, even if the store was moved or copied, or
    is mounted at another path than before.

    Args:
        tracking_uri: An absolute MLflow tracking URI (`sqlite:////abs/mlflow.db`, `http://…`).
    """

    def __init__(self, tracking_uri: str) -> None:
        spare_the_delay(tracking_uri)
        self.tracking_uri = tracking_uri
        self.client = MlflowClient(tracking_uri=tracking_uri)
        self._database = database_file(tracking_uri)
        self._rows = _rows(self.client)
        self._homes: dict[str, Home | None] = {}

    def studies(self) -> list[str]:
        """Names of all experiments in the store except MLflow's own `Default`."""
        found = self.experiments(ViewType.ACTIVE_ONLY)
        return sorted(experiment.name for experiment in found if experiment.name != "Default")

    def experiments(self, view: int = ViewType.ALL) -> list[Experiment]:
        """MLflow's experiments, with deleted ones unless `view` excludes them."""
        found: list[Experiment] = get_results_from_paginated_fn(
            lambda most, token: self.client.search_experiments(
                view, max_results=most, page_token=token
            ),
            _PAGE,
        )
        return found

    def home(self, experiment: Experiment) -> Home | None:
        """Where a study's artifacts are, relative to the store; None if not below it."""
        identifier = experiment.experiment_id
        if self._database is not None and identifier not in self._homes:
            self._homes[identifier] = home_of(
                experiment, self._database.parent, lambda run_id: self._owns(identifier, run_id)
            )
        return self._homes.get(identifier)

    def study_document(self, study: str) -> dict[str, Any] | None:
        """The study document that the driver recorded (`name`, `axes`, …); None if there is none.

        Raises:
            UserError: There is no such study, or its document is not a JSON object.
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
                "the study document is not a JSON object",
                where=f"experiment tag {STUDY_TAG} of '{study}'",
                do="start the sweep again: it writes the document again",
            )
        return document

    def experiment_tags(self, study: str) -> dict[str, str]:
        """All tags of the study's experiment; UserError if there is no such study."""
        return dict(self._experiment(study).tags)

    def experiment_id(self, study: str) -> str:
        """MLflow's identifier of the study's experiment; UserError if there is no such study."""
        identifier: str = self._experiment(study).experiment_id
        return identifier

    def runs(self, study: str) -> Iterator[records.RunRecord]:
        """All runs of the study, oldest first, without deleted ones; UserError if it is unknown."""
        experiment = self._experiment(study)
        home = self.home(experiment)
        held = home.held() if home else ()
        read = self._rows.runs if self._rows is not None else self._runs_by_pages
        yield from (located(run, home, held) for run in read(experiment.experiment_id))

    def _runs_by_pages(self, experiment_id: str) -> Iterator[records.RunRecord]:
        """The runs of an experiment through MLflow's client."""
        token: str | None = None
        while True:
            page = self.client.search_runs(
                [experiment_id],
                max_results=_PAGE,
                page_token=token,
                order_by=["attributes.start_time ASC"],
            )
            yield from map(records.run_record, page)
            token = page.token
            if not token:
                return

    def finished_elsewhere(self, study: str, keys: Container[str]) -> dict[str, records.Elsewhere]:
        """Finished runs of other studies by their keys, without superseded and incomplete ones.

        If several have the same key, a run that was computed in its study is preferred over one
        that was reused.
        """
        found: dict[str, records.Elsewhere] = {}
        for experiment in self.experiments(ViewType.ACTIVE_ONLY):
            if experiment.name == study or STUDY_TAG not in experiment.tags:
                continue
            runs = list(self.runs(experiment.name))
            digests = {run.run_id: run.tags.get(records.DIGEST_TAG, "") for run in runs}
            for run in runs:
                key = run.tags.get(records.KEY_TAG, "")
                if key in keys and _reusable(run) and _better(run, found.get(key)):
                    above = digests.get(run.tags.get(records.PARENT_TAG, ""), "")
                    found[key] = records.Elsewhere(experiment.name, run, above)
        return found

    def metric_history(self, run_id: str, metric: str) -> list[tuple[int, float]]:
        """(step, value) of one metric of one run, ordered by step."""
        history = self.client.get_metric_history(run_id, metric)
        return sorted((entry.step, entry.value) for entry in history)

    def measured(self, run: records.RunRecord) -> Iterator[records.Measured]:
        """All values that a run has logged, metric by metric, in the order of steps."""
        with ThreadPoolExecutor(_REQUESTS_AT_ONCE) as threads:
            names = sorted(run.metrics)
            asked = partial(self.client.get_metric_history, run.run_id)
            for name, history in zip(names, threads.map(asked, names), strict=True):
                for entry in sorted(history, key=lambda entry: (entry.step, entry.timestamp)):
                    yield name, entry.step, entry.value, entry.timestamp

    def metric_histories(
        self, run_ids: Sequence[str], metric: str
    ) -> dict[str, list[tuple[int, float]]]:
        """(step, value) of one metric of many runs, each ordered by step; empty if none logged.

        A database is asked for hundreds of runs at once. A server is asked for several runs in
        parallel, because MLflow's client has no request for more than one run.
        """
        # The store of the client itself; the client has no method for bulk reading.
        bulk = getattr(self.client._tracking_client.store, "get_metric_history_bulk", None)
        if bulk is None:
            with ThreadPoolExecutor(_REQUESTS_AT_ONCE) as threads:
                found = threads.map(lambda run_id: self.metric_history(run_id, metric), run_ids)
                return dict(zip(run_ids, found, strict=True))
        histories: dict[str, list[tuple[int, float]]] = {run_id: [] for run_id in run_ids}
        for start in range(0, len(run_ids), _RUNS_AT_ONCE):
            for entry in bulk(run_ids[start : start + _RUNS_AT_ONCE], metric, _NO_LIMIT):
                histories[entry.run_id].append((entry.step, entry.value))
        return {run_id: sorted(history) for run_id, history in histories.items()}

    def logged_steps(self, run: records.RunRecord) -> set[tuple[str, int]]:
        """Every (metric, step) that `run` has logged."""
        return {
            (metric, step)
            for metric in run.metrics
            for step, _ in self.metric_history(run.run_id, metric)
        }

    def latest_study(self) -> str:
        """The study of the run that started last; UserError if the store has no runs."""
        experiments = {e.experiment_id: e.name for e in self.client.search_experiments()}
        found = self.client.search_runs(
            list(experiments), max_results=1, order_by=["attributes.start_time DESC"]
        )
        if not found:
            raise UserError("it has no runs yet", where=self.tracking_uri, do="run a sweep first")
        return str(experiments[found[0].info.experiment_id])

    def artifact(self, run: records.RunRecord, name: str) -> Path | None:
        """Local path of the artifact `name`, downloaded if it is on a server; None if absent."""
        with store_answers(self.tracking_uri):
            return fetch_artifact(run.artifact_uri, name, self.tracking_uri)

    def _owns(self, experiment_id: str, run_id: str) -> bool:
        try:
            return bool(self.client.get_run(run_id).info.experiment_id == experiment_id)
        except MlflowException as error:
            if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                raise
            return False  # the folder is not that of a run

    def _experiment(self, study: str) -> Experiment:
        experiment = self.client.get_experiment_by_name(study)
        if experiment is None or experiment.lifecycle_stage != "active":
            known = self.studies()
            advice = nearest(study, known) if known else "it has no studies yet: run a sweep first"
            raise UserError(f"no study '{study}'", where=self.tracking_uri, do=advice)
        return experiment


def located(
    run: records.RunRecord, home: Home | None, held: Container[str] = ()
) -> records.RunRecord:
    """A run with the present address of its artifacts.

    Args:
        run: As MLflow recorded it.
        home: Home of its study; None if its artifacts do not move with the store.
        held: Identifiers of the runs with a folder there.
    """
    if home is None:
        return run
    address = present_address(home, run.run_id, run.status, run.artifact_uri, held, is_there)
    return replace(run, artifact_uri=address)


def _rows(client: MlflowClient) -> Rows | None:
    """`Rows` for the client's store; None if that is not a database with the known tables."""
    store = database_store(client)
    if store is None:
        return None
    # Imported only for a database: importing MLflow's tables takes seconds.
    from rfray.tracking.rows import rows_of

    return rows_of(store)


def _reusable(run: records.RunRecord) -> bool:
    counts = run.status == "FINISHED" and not run.tags.get(records.SUPERSEDED_TAG)
    return counts and not records.withheld_of(run)


def _better(run: records.RunRecord, known: records.Elsewhere | None) -> bool:
    return known is None or (
        records.TAKEN_FROM_TAG in known.run.tags and records.TAKEN_FROM_TAG not in run.tags
    )
