"""Reads and writes whole runs directly in MLflow's tables, which is faster than MLflow's client.

For one short run MLflow's client makes about 35 queries, and objects of all results. This takes
four times as long as the rows themselves, for reading and for writing. So this module creates runs,
ends runs with all their content, and reads the runs of a study. It uses MLflow's own tables and
MLflow's own validation. Everything else uses the client.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from operator import itemgetter
from typing import Any, TypeVar
from uuid import uuid4

from mlflow.entities import LifecycleStage, Metric, Param, RunStatus, RunTag, SourceType
from mlflow.store.tracking.dbmodels.models import (
    SqlExperiment,
    SqlLatestMetric,
    SqlMetric,
    SqlParam,
    SqlRun,
    SqlTag,
)
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
from mlflow.utils.mlflow_tags import MLFLOW_RUN_NAME, MLFLOW_USER
from mlflow.utils.uri import append_to_uri_path
from mlflow.utils.validation import _validate_batch_log_data
from sqlalchemy import Row as Found
from sqlalchemy import Table, insert, select, union_all, update
from sqlalchemy.orm import Session

from rfray.tracking.records import RunRecord

_COLUMNS: dict[Any, str] = {
    SqlExperiment: "experiment_id name artifact_location lifecycle_stage creation_time "
    "last_update_time workspace",
    SqlRun: "run_uuid name source_type source_name entry_point_name user_id status start_time "
    "end_time deleted_time source_version lifecycle_stage artifact_uri experiment_id",
    SqlTag: "key value run_uuid",
    SqlParam: "key value run_uuid",
    SqlMetric: "key value timestamp step is_nan run_uuid",
    SqlLatestMetric: "key value timestamp step is_nan run_uuid",
}
"""The columns of the tables that this module knows. With other columns the client is used."""

_NOBODY = "unknown"  # as MLflow names the user of a run without such a tag

_RUNS_AT_ONCE = 500  # below the limit of a database for parameters of a query

Row = dict[str, Any]

T = TypeVar("T")


class Rows:
    """Reads and writes runs in the database of MLflow's client."""

    def __init__(self, store: SqlAlchemyStore) -> None:
        self._store = store

    def runs(self, experiment_id: str) -> Iterator[RunRecord]:
        """All runs of an experiment, oldest first, without deleted ones."""
        with self._store.ManagedSessionMaker() as session:
            found = session.execute(
                select(
                    SqlRun.run_uuid,
                    SqlRun.name,
                    SqlRun.status,
                    SqlRun.start_time,
                    SqlRun.end_time,
                    SqlRun.artifact_uri,
                )
                .where(
                    SqlRun.experiment_id == int(experiment_id),
                    SqlRun.lifecycle_stage == LifecycleStage.ACTIVE,
                )
                .order_by(SqlRun.start_time, SqlRun.run_uuid)
            ).all()
        for first in range(0, len(found), _RUNS_AT_ONCE):
            yield from self._records(found[first : first + _RUNS_AT_ONCE])

    def _records(self, found: Sequence[Found[Any]]) -> Iterator[RunRecord]:
        """Runs with their tags, params and metrics."""
        with self._store.ManagedSessionMaker() as session:
            ids = [run.run_uuid for run in found]
            tags = _by_run(ids, _pairs(session, SqlTag, ids))
            params = _by_run(ids, _pairs(session, SqlParam, ids))
            metrics = _by_run(ids, _latest_values(session, ids))
        for run in found:
            yield RunRecord(
                run_id=run.run_uuid,
                name=run.name or tags[run.run_uuid].get(MLFLOW_RUN_NAME, ""),
                status=run.status,
                start_time=run.start_time,
                end_time=run.end_time,
                artifact_uri=run.artifact_uri,
                tags=tags[run.run_uuid],
                params=params[run.run_uuid],
                metrics=metrics[run.run_uuid],
            )

    def open_run(
        self, experiment_id: str, name: str, tags: Mapping[str, str], start_time: int
    ) -> RunRecord | None:
        """Create a run that is RUNNING since `start_time`, in milliseconds since the epoch.

        None if nothing was written, because there is no such active experiment.
        """
        with self._store.ManagedSessionMaker(read_only=False) as session:
            place = _artifact_location(session, int(experiment_id))
            if place is None:
                return None
            run_id = uuid4().hex
            all_tags = {**tags, MLFLOW_RUN_NAME: name}
            address = append_to_uri_path(place, run_id, SqlAlchemyStore.ARTIFACTS_FOLDER_NAME)
            run = {
                "run_uuid": run_id,
                "name": name,
                "experiment_id": int(experiment_id),
                "artifact_uri": address,
                "status": RunStatus.to_string(RunStatus.RUNNING),
                "start_time": start_time,
                "lifecycle_stage": LifecycleStage.ACTIVE,
                "user_id": tags.get(MLFLOW_USER, _NOBODY),
                "source_type": SourceType.to_string(SourceType.UNKNOWN),
                "source_name": "",
                "source_version": "",
                "entry_point_name": "",
            }
            _insert(session, SqlRun.__table__, [run])
            _insert(session, SqlTag.__table__, _named_rows(run_id, all_tags))
        return RunRecord(
            run_id=run_id,
            name=name,
            status="RUNNING",
            start_time=start_time,
            end_time=None,
            artifact_uri=address,
            tags=all_tags,
            params={},
            metrics={},
        )

    def end_run(
        self,
        run_id: str,
        status: str,
        end_time: int,
        params: Sequence[Param],
        metrics: Sequence[Metric],
        tags: Sequence[RunTag],
    ) -> bool:
        """Write the content of a run, and end it.

        Args:
            run_id: The run.
            status: FINISHED, FAILED or KILLED.
            end_time: Milliseconds since the epoch.
            params: Each name once.
            metrics: Values of metrics.
            tags: Each name once.

        Returns:
            Whether it was written. Nothing is written if the run already has params, metrics or one
            of the tags, or does not exist.

        Raises:
            MlflowException: MLflow does not allow a name or a value.
        """
        metrics, params, tags = _validate_batch_log_data(metrics, params, tags)
        with self._store.ManagedSessionMaker(read_only=False) as session:
            if _has_content(session, run_id, [tag.key for tag in tags]):
                return False
            ended = session.execute(
                update(SqlRun.__table__)
                .where(SqlRun.run_uuid == run_id, SqlRun.lifecycle_stage == LifecycleStage.ACTIVE)
                .values(status=status, end_time=end_time)
            )
            if ended.rowcount != 1:
                return False
            rows = [self._metric_row(run_id, metric) for metric in metrics]
            _insert(session, SqlParam.__table__, _named_rows(run_id, _by_name(params)))
            _insert(session, SqlTag.__table__, _named_rows(run_id, _by_name(tags)))
            _insert(session, SqlMetric.__table__, _each_once(rows))
            _insert(session, SqlLatestMetric.__table__, _latest(rows))
        return True

    def _metric_row(self, run_id: str, metric: Metric) -> Row:
        is_nan, value = self._store.sanitize_metric_value(metric.value)
        return {
            "run_uuid": run_id,
            "key": metric.key,
            "value": value,
            "is_nan": is_nan,
            "timestamp": metric.timestamp,
            "step": metric.step,
        }


def rows_of(store: SqlAlchemyStore) -> Rows | None:
    """`Rows` for a store; None for a store that needs MLflow's client.

    This is a store of MLflow's workspaces, which checks the owner of each experiment, and a store
    with columns that this module does not know.
    """
    known = all(
        {column.key for column in table.__table__.columns} == set(columns.split())
        for table, columns in _COLUMNS.items()
    )
    return Rows(store) if known and type(store) is SqlAlchemyStore else None


def _pairs(
    session: Session, table: type[SqlTag] | type[SqlParam], run_ids: Sequence[str]
) -> Iterator[tuple[str, str, str]]:
    """(run, name, value) of each tag or param of the runs."""
    columns = select(table.run_uuid, table.key, table.value)
    yield from session.execute(columns.where(table.run_uuid.in_(run_ids)))


def _latest_values(session: Session, run_ids: Sequence[str]) -> Iterator[tuple[str, str, float]]:
    """(run, metric, latest value) of the runs."""
    one = SqlLatestMetric
    columns = select(one.run_uuid, one.key, one.value, one.is_nan)
    for run_id, key, value, is_nan in session.execute(columns.where(one.run_uuid.in_(run_ids))):
        yield run_id, key, math.nan if is_nan else value


def _by_run(run_ids: Sequence[str], found: Iterable[tuple[str, str, T]]) -> dict[str, dict[str, T]]:
    """The values by run and name; empty for a run without any."""
    by_run: dict[str, dict[str, T]] = {run_id: {} for run_id in run_ids}
    for run_id, name, value in found:
        by_run[run_id][name] = value
    return by_run


def _artifact_location(session: Session, experiment_id: int) -> str | None:
    """Where an experiment's artifacts go; None if it does not exist or was deleted."""
    found = session.execute(
        select(SqlExperiment.artifact_location).where(
            SqlExperiment.experiment_id == experiment_id,
            SqlExperiment.lifecycle_stage == LifecycleStage.ACTIVE,
        )
    )
    place: str | None = found.scalar_one_or_none()
    return place


def _has_content(session: Session, run_id: str, tags: Sequence[str]) -> bool:
    """Whether a run has a param, a metric or one of the tags."""
    content = union_all(
        select(SqlParam.key).where(SqlParam.run_uuid == run_id),
        select(SqlLatestMetric.key).where(SqlLatestMetric.run_uuid == run_id),
        select(SqlTag.key).where(SqlTag.run_uuid == run_id, SqlTag.key.in_(tags)),
    )
    return session.execute(content.limit(1)).first() is not None


def _insert(session: Session, table: Table, rows: Sequence[Row]) -> None:
    if rows:
        session.execute(insert(table), rows)


def _by_name(entries: Sequence[Param] | Sequence[RunTag]) -> dict[str, str]:
    return {entry.key: entry.value for entry in entries}


def _named_rows(run_id: str, values: Mapping[str, str]) -> list[Row]:
    return [{"run_uuid": run_id, "key": name, "value": value} for name, value in values.items()]


def _each_once(rows: Sequence[Row]) -> list[Row]:
    """Rows of metrics without duplicates, which the table does not allow."""
    return list({tuple(row.values()): row for row in rows}.values())


def _latest(rows: Sequence[Row]) -> list[Row]:
    """The row of each metric that MLflow shows: that of the last step, then time, then value."""
    by_metric: defaultdict[str, list[Row]] = defaultdict(list)
    for row in rows:
        by_metric[row["key"]].append(row)
    recency = itemgetter("step", "timestamp", "value")
    return [max(of_one, key=recency) for of_one in by_metric.values()]
