"""Writes runs to an MLflow tracking store. Only the process that holds a study does this."""

import json
import shlex
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from itertools import zip_longest
from pathlib import Path
from typing import Any, TypeVar

from mlflow.entities import Metric, Param, RunTag
from mlflow.exceptions import MlflowException
from mlflow.utils.time import get_current_time_millis

from rfray.errors import UserError
from rfray.tracking.ledger import STUDY_TAG, Ledger, located
from rfray.tracking.places import STORE_TAG, new_home
from rfray.tracking.records import NOTE_TAG, Measured, RunOpening, RunRecord, run_record
from rfray.tracking.store import leave_retries_to_rfray
from rfray.tracking.transaction import has_transactions, one_transaction

_EXPERIMENT_KIND = ("mlflow.experimentKind", "custom_model_development")
"""With this tag MLflow's pages show training runs, not the traces of language models."""

_OURS = "rfray study, "
"""The start of a study's description that rfray has written."""

_METRICS_A_BATCH = 800  # MLflow allows 1,000 metrics, params and tags together
_PARAMS_A_BATCH = 100
_LONGEST_TAG = 5000

T = TypeVar("T")


class LedgerWriter(Ledger):
    """Writes runs of a study that this process holds.

    No method retries: the caller decides how long to wait during an outage.

    Args:
        tracking_uri: As for `Ledger`.
        study: Name of the study. Its experiment is created if there is none; its artifacts are next
            to the database, or where the tracking server puts them.

    Raises:
        UserError: The experiment was deleted.
    """

    def __init__(self, tracking_uri: str, study: str) -> None:
        leave_retries_to_rfray()
        super().__init__(tracking_uri)
        self.study = study
        if self.client.get_experiment_by_name(study) is None:
            self._create_experiment()
        experiment = self.client.get_experiment_by_name(study)
        if experiment.lifecycle_stage != "active":
            restore = ["mlflow", "experiments", "restore", "-x", experiment.experiment_id]
            raise UserError(
                f"the experiment '{study}' was deleted",
                where=tracking_uri,
                do=f"restore it with `MLFLOW_TRACKING_URI={shlex.quote(tracking_uri)} "
                f"{shlex.join(restore)}`, or give the study another name",
            )
        self._id = experiment.experiment_id
        self._home = self.home(experiment)

    def _create_experiment(self) -> None:
        home = new_home(self.tracking_uri, self.study)
        location, tags = (home.uri, {STORE_TAG: str(home.store)}) if home else (None, {})
        try:
            self.client.create_experiment(self.study, artifact_location=location, tags=tags)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":  # another process has created it
                raise

    @property
    def has_transactions(self) -> bool:
        """Whether `together` is a transaction: for a database, not for a server."""
        return has_transactions(self.client)

    def together(self) -> AbstractContextManager[None]:
        """Write everything in this block as one transaction, if the store has transactions."""
        return one_transaction(self.client)

    def describe(self, document: Mapping[str, Any], words: str = "") -> None:
        """Record the study document, and a description.

        Args:
            document: The study document, JSON-ready.
            words: The description that MLflow shows above the runs. It does not replace one that a
                user has written. Empty changes nothing.
        """
        self.client.set_experiment_tag(self._id, STUDY_TAG, json.dumps(document))
        self.client.set_experiment_tag(self._id, *_EXPERIMENT_KIND)
        written = self.note(NOTE_TAG)
        if words and (not written or written.startswith(_OURS)):
            self.set_note(NOTE_TAG, _OURS + words)

    def note(self, name: str) -> str:
        """A tag of the study's experiment; empty if there is none."""
        text: str = self.client.get_experiment(self._id).tags.get(name, "")
        return text

    def set_note(self, name: str, text: str) -> None:
        """Set a tag of the study's experiment."""
        self.client.set_experiment_tag(self._id, name, text)

    def running(self, tag: str, value: str) -> RunRecord | None:
        """The RUNNING run with a tag, the last one if several; None if there is none.

        A request whose answer was lost may have created one.
        """
        found = self.client.search_runs(
            [self._id],
            filter_string=f"tags.`{tag}` = '{value}' and attributes.status = 'RUNNING'",
            max_results=1,
            order_by=["attributes.start_time DESC"],
        )
        return located(run_record(found[0]), self._home) if found else None

    def open_run(self, opening: RunOpening) -> RunRecord:
        """Create a run that is RUNNING, with its tags. Its params are logged later."""
        return self.open_copy(opening.name, get_current_time_millis(), opening.tags)

    def reopen_run(self, run: RunRecord, opening: RunOpening) -> RunRecord:
        """Resume a run that an earlier attempt left unfinished, with the name of `opening`."""
        self.client.update_run(run.run_id, status="RUNNING", name=opening.name)
        self.client.log_batch(run.run_id, tags=_tags(opening.tags))
        tags = {**run.tags, **opening.tags}
        return replace(run, name=opening.name, status="RUNNING", tags=tags)

    def log(
        self,
        run_id: str,
        params: Mapping[str, Any],
        measurements: Sequence[Measured],
        tags: Mapping[str, str] | None = None,
    ) -> None:
        """Write params, measurements and tags of a run, in as few requests as MLflow allows.

        Args:
            run_id: The run.
            params: Params that it does not hold yet.
            measurements: `(metric, step, value, milliseconds since the epoch)`.
            tags: At most 100.
        """
        batches = zip_longest(
            _pieces(_params(params), _PARAMS_A_BATCH),
            _pieces(_metrics(measurements), _METRICS_A_BATCH),
            [_tags(tags)] if tags else [],
            fillvalue=(),
        )
        for some_params, some_metrics, some_tags in batches:
            self.client.log_batch(run_id, params=some_params, metrics=some_metrics, tags=some_tags)

    def open_copy(self, name: str, start_time: int, tags: Mapping[str, str]) -> RunRecord:
        """Create a RUNNING run as a copy of one from another study or store.

        `start_time` is that of the original run, in milliseconds since the epoch.
        """
        if self._rows is not None:
            made = self._rows.open_run(self._id, name, tags, start_time)
            if made is not None:
                return located(made, self._home)
        run = self.client.create_run(
            self._id, start_time=start_time, tags=dict(tags), run_name=name
        )
        return located(run_record(run), self._home)

    def end_copy(
        self, run_id: str, status: str, end_time: int | None, tags: Mapping[str, str]
    ) -> None:
        """Write the last tags of a copy, then end it with the original run's time."""
        self.log(run_id, {}, [], tags)
        self.client.set_terminated(run_id, status=status, end_time=end_time)

    def send_artifact(self, run_id: str, file: Path, folder: str) -> None:
        """Upload a file to a run's artifacts, into a folder there; empty for none."""
        self.client.log_artifact(run_id, str(file), folder or None)

    def rename(self, run_id: str, name: str) -> None:
        """Change the name of a run."""
        self.client.update_run(run_id, name=name)

    def end_run(
        self,
        run_id: str,
        status: str,
        tags: Mapping[str, str],
        measurements: Sequence[Measured] = (),
        params: Mapping[str, Any] | None = None,
    ) -> None:
        """Write the rest of a run's content, then end it as FINISHED, FAILED or KILLED."""
        params = params or {}
        if self._rows is not None and self._rows.end_run(
            run_id,
            status,
            get_current_time_millis(),
            _params(params),
            _metrics(measurements),
            _tags(tags),
        ):
            return
        self.log(run_id, params, measurements, tags)
        self.client.set_terminated(run_id, status=status)


def _pieces(entries: Sequence[T], length: int) -> list[Sequence[T]]:
    return [entries[start : start + length] for start in range(0, len(entries), length)]


def _params(params: Mapping[str, Any]) -> list[Param]:
    return [Param(name, str(value)) for name, value in params.items()]


def _metrics(measurements: Sequence[Measured]) -> list[Metric]:
    return [Metric(name, value, time, step) for name, step, value, time in measurements]


def _tags(tags: Mapping[str, str]) -> list[RunTag]:
    return [RunTag(name, value[:_LONGEST_TAG]) for name, value in tags.items()]
