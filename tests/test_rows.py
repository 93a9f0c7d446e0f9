"""Runs written straight into MLflow's tables are those that its client writes, row by row."""

from __future__ import annotations

import math
import sqlite3

import pytest
from mlflow.exceptions import MlflowException
from mlflow.store.tracking.dbmodels.models import SqlRun

from rfray.tracking import LedgerWriter, RunOpening, rows
from rfray.tracking.rows import Rows, rows_of
from rfray.tracking.transaction import database_store

NOW = 1_700_000_000_000
OPENING = RunOpening(
    name="vgg19_rf-digits-k2/train",
    tags={"rfray.key": "abc", "rfray.stage": "train", "mlflow.parentRunId": "0" * 32},
    params={},
)
PARAMS = {"rate": 0.5, "arch": "vgg19_rf", "nothing": None, "long": "x" * 7000}
TAGS = {"rfray.seconds": "1.000", "rfray.host": "here", "rfray.traceback": "line\n" * 3000}
TABLES = ("runs", "tags", "params", "metrics", "latest_metrics")
OF_THEIR_OWN = {"run_uuid", "artifact_uri", "start_time", "end_time", "experiment_id"}

MEASURED = {
    "nothing": [],
    "one value": [("accuracy", 0, 50.0, NOW)],
    "several epochs": [("accuracy", step, 50.0 + step, NOW + step) for step in range(5)],
    "steps out of order": [("loss", step, 1.0, NOW + step) for step in (3, 1, 4, 0, 2)],
    "a step with two values": [("loss", 1, 2.0, NOW), ("loss", 1, 1.0, NOW + 5)],
    "values of one time": [("loss", 1, value, NOW) for value in (2.0, 3.0, 1.0)],
    "the same twice": [("loss", 1, 2.0, NOW), ("loss", 1, 2.0, NOW)],
    "infinite": [("loss", 1, math.inf, NOW), ("loss", 0, -math.inf, NOW)],
    "no number twice": [("loss", 0, math.nan, NOW), ("loss", 0, math.nan, NOW)],
}


@pytest.fixture
def writer(storage):
    return LedgerWriter(storage.tracking_uri, "study")


@pytest.fixture
def by_client(writer, monkeypatch):
    """A writer that has MLflow's client do everything."""
    client = LedgerWriter(writer.tracking_uri, "study")
    monkeypatch.setattr(client, "_rows", None)
    return client


def written(storage, run_id):
    """All that the database holds of a run, but for what no two runs share."""
    found = {}
    with sqlite3.connect(storage.database) as database:
        database.row_factory = sqlite3.Row
        for table in TABLES:
            rows = database.execute(f"SELECT * FROM {table} WHERE run_uuid = ?", (run_id,))
            kept = [{k: row[k] for k in row.keys() if k not in OF_THEIR_OWN} for row in rows]  # noqa: SIM118
            found[table] = sorted(kept, key=repr)
    return found


def whole_run(writer, measured, params=PARAMS, tags=TAGS):
    run = writer.open_run(OPENING)
    writer.end_run(run.run_id, "FINISHED", tags, measured, params)
    return run


@pytest.mark.parametrize("measured", MEASURED.values(), ids=MEASURED)
# Writing


def test_a_run_is_what_the_client_would_have_written(writer, by_client, storage, measured):
    ours, theirs = whole_run(writer, measured), whole_run(by_client, measured)
    assert written(storage, ours.run_id) == written(storage, theirs.run_id)
    assert ours.tags == theirs.tags
    assert ours.artifact_uri == theirs.artifact_uri.replace(theirs.run_id, ours.run_id)


def test_a_run_without_params_and_tags_is_too(writer, by_client, storage):
    runs = [whole_run(one, [], {}, {}) for one in (writer, by_client)]
    assert written(storage, runs[0].run_id) == written(storage, runs[1].run_id)


def test_every_column_of_mlflows_run_is_written_or_is_empty(writer, storage):
    """A column that MLflow adds, and fills itself, must not go unnoticed."""
    run = writer.open_run(OPENING)
    with sqlite3.connect(storage.database) as database:
        database.row_factory = sqlite3.Row
        row = database.execute("SELECT * FROM runs WHERE run_uuid = ?", (run.run_id,)).fetchone()
    assert {name for name in row.keys() if row[name] is None} == {"end_time", "deleted_time"}  # noqa: SIM118


def test_a_run_that_says_something_already_is_ended_by_the_client(writer, by_client, storage):
    def in_parts(one):
        run = one.open_run(OPENING)
        one.log(run.run_id, {"rate": 0.5}, [("loss", 0, 2.0, NOW)], {"rfray.host": "there"})
        one.end_run(run.run_id, "FAILED", TAGS, [("loss", 1, 1.0, NOW)], {"arch": "vgg19_rf"})
        return written(storage, run.run_id)

    assert in_parts(writer) == in_parts(by_client)


def test_ending_a_run_twice_changes_no_more_than_the_client_would(writer, by_client, storage):
    def twice(one):
        run = whole_run(one, MEASURED["several epochs"])
        one.end_run(run.run_id, "FINISHED", TAGS, MEASURED["several epochs"], PARAMS)
        return written(storage, run.run_id)

    assert twice(writer) == twice(by_client)


def test_what_mlflow_refuses_is_refused_and_nothing_of_it_stays(writer, storage):
    run = writer.open_run(OPENING)
    before = written(storage, run.run_id)
    with pytest.raises(MlflowException, match="loss"):
        writer.end_run(run.run_id, "FINISHED", {}, [("loss$", 0, 1.0, NOW)], PARAMS)
    assert written(storage, run.run_id) == before


def test_a_deleted_run_is_not_ended(writer):
    run = writer.open_run(OPENING)
    writer.client.delete_run(run.run_id)
    with pytest.raises(MlflowException, match="active"):
        writer.end_run(run.run_id, "FINISHED", TAGS)


def test_a_deleted_experiment_takes_no_run(storage):
    writer = LedgerWriter(storage.tracking_uri, "deleted")
    writer.client.delete_experiment(writer.experiment_id("deleted"))
    with pytest.raises(MlflowException, match="active"):
        writer.open_run(OPENING)


def test_a_short_run_is_written_without_the_client(writer, monkeypatch):
    monkeypatch.setattr(writer, "client", None)
    run = whole_run(writer, MEASURED["several epochs"])
    assert run.status == "RUNNING"


# Reading


def test_runs_are_read_as_the_client_reads_them(storage, monkeypatch):
    writer = LedgerWriter(storage.tracking_uri, "read")
    for name, measured in MEASURED.items():
        whole_run(writer, measured, {"case": name}, {"rfray.host": name})
    writer.open_run(OPENING)
    writer.client.delete_run(whole_run(writer, []).run_id)
    monkeypatch.setattr("rfray.tracking.rows._RUNS_AT_ONCE", 4)
    ours = list(writer.runs("read"))
    monkeypatch.setattr(writer, "_rows", None)
    theirs = list(writer.runs("read"))
    assert [run.start_time for run in ours] == sorted(run.start_time for run in ours)
    assert len(ours) == len(MEASURED) + 1
    assert by_identifier(ours) == by_identifier(theirs)


def by_identifier(runs):
    """As text, in which a value that is no number equals itself."""
    return {run.run_id: repr({**vars(run), "tags": sorted(run.tags.items()),
            "params": sorted(run.params.items()), "metrics": sorted(run.metrics.items())})
            for run in runs}  # fmt: skip


def test_a_study_without_runs_has_none(storage):
    writer = LedgerWriter(storage.tracking_uri, "empty")
    assert list(writer.runs("empty")) == []


def test_rows_are_written_only_where_mlflow_asks_a_database_itself(writer):
    assert isinstance(writer._rows, Rows)


def test_tables_of_another_release_of_mlflow_are_left_to_its_client(writer, monkeypatch):
    monkeypatch.setitem(rows._COLUMNS, SqlRun, "run_uuid name status")
    assert rows_of(database_store(writer.client)) is None
    assert LedgerWriter(writer.tracking_uri, "study")._rows is None
