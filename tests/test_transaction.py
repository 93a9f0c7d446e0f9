"""What waits is written together: in one transaction, or at the same time to a server."""

from __future__ import annotations

import sqlite3
import threading
import time
from queue import SimpleQueue

import pytest
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE, TEMPORARILY_UNAVAILABLE
from sqlalchemy import event
from sqlalchemy.engine import Engine

from rfray.engine.scribe import Scribe
from rfray.errors import first_line
from rfray.tracking import Ledger, LedgerWriter, RunOpening, is_outage

MEASURED = [("accuracy", 1, 50.0, 1_700_000_000_000), ("accuracy", 2, 60.0, 1_700_000_000_001)]


@pytest.fixture
def writer(storage, request):
    return LedgerWriter(storage.tracking_uri, request.node.name)


@pytest.fixture
def commits():
    """Counts the transactions that reach a database."""
    counted = []

    def count(connection):
        counted.append(connection)

    event.listen(Engine, "commit", count)
    yield counted
    event.remove(Engine, "commit", count)


def write_a_run(writer, name):
    run = writer.open_run(RunOpening(name=name, tags={"rfray.key": name}, params={}))
    writer.end_run(run.run_id, "FINISHED", {"rfray.host": "here"}, MEASURED, {"rate": 0.5})
    return run


def finished(writer):
    found = Ledger(writer.tracking_uri).runs(writer.study)
    return {run.name: run for run in found if run.status == "FINISHED"}


def names_seen_by_others(storage):
    with sqlite3.connect(storage.database) as other:
        return {name for (name,) in other.execute("SELECT name FROM runs")}


def test_many_runs_are_one_transaction_and_are_what_they_would_be_one_by_one(
    writer, storage, commits
):
    alone = write_a_run(writer, "alone")
    assert len(commits) == 2  # its opening and its end
    commits.clear()
    with writer.together():
        for number in range(5):
            write_a_run(writer, f"run{number}")
    assert len(commits) == 1
    found = finished(writer)
    assert len(found) == 6
    for name in ("run0", "run4"):
        assert found[name].params == found["alone"].params
        assert found[name].metrics == found["alone"].metrics == {"accuracy": 60.0}
        assert found[name].tags.keys() == found["alone"].tags.keys()
    history = writer.metric_history(found["run4"].run_id, "accuracy")
    assert history == writer.metric_history(alone.run_id, "accuracy") == [(1, 50.0), (2, 60.0)]


def test_nothing_is_seen_before_it_is_settled_and_nothing_stays_of_what_fails(writer, storage):
    with pytest.raises(RuntimeError, match="the disk"), writer.together():
        write_a_run(writer, "lost")
        assert "lost" not in names_seen_by_others(storage)
        raise RuntimeError("the disk")
    assert finished(writer) == {}
    write_a_run(writer, "kept")
    assert set(finished(writer)) == {"kept"}


def test_what_was_logged_before_is_logged_once(writer, storage):
    """MLflow undoes the insertion and goes on, which must not undo what stands beside it."""
    run = write_a_run(writer, "first")
    with writer.together():
        write_a_run(writer, "second")
        writer.log(run.run_id, {}, [*MEASURED, ("accuracy", 3, 70.0, 1_700_000_000_002)])
        write_a_run(writer, "third")
    assert set(finished(writer)) == {"first", "second", "third"}
    assert writer.metric_history(run.run_id, "accuracy") == [(1, 50.0), (2, 60.0), (3, 70.0)]


def test_a_locked_database_is_an_outage(writer, storage, monkeypatch):
    monkeypatch.setattr("rfray.tracking.transaction.LOCK_MILLISECONDS", 50)
    other = sqlite3.connect(storage.database, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(MlflowException) as locked, writer.together():
        write_a_run(writer, "never")
    assert is_outage(locked.value)
    other.execute("ROLLBACK")
    other.close()
    with writer.together():
        write_a_run(writer, "now")
    assert set(finished(writer)) == {"now"}


def test_a_full_disk_is_an_outage_that_is_called_by_its_name(writer, storage):
    write_a_run(writer, "kept")

    @event.listens_for(Engine, "connect")
    def fill(connection, _record):
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count = {pages}")

    writer.client._tracking_client.store.engine.dispose()
    with pytest.raises(MlflowException) as full, writer.together():
        for number in range(100):
            write_a_run(writer, f"lost-{number}")
    event.remove(Engine, "connect", fill)
    assert is_outage(full.value)
    assert "database or disk is full" in first_line(full.value)
    writer.client._tracking_client.store.engine.dispose()
    assert set(finished(writer)) == {"kept"}


def test_another_thread_is_not_drawn_into_the_transaction(writer, storage):
    seen = SimpleQueue()
    with writer.together():
        write_a_run(writer, "here")
        thread = threading.Thread(target=lambda: seen.put(list(finished(writer))))
        thread.start()
        thread.join()
    assert seen.get() == []


# The scribe


@pytest.fixture
def scribe(writer):
    held = threading.Event()
    made = Scribe(beat=lambda: None, wake=lambda: None, together=writer.together)
    made.record("held", lambda: held.wait(30) and None)  # until all that the test gives it waits
    yield made, held
    held.set()
    made.close(10)


def until(condition):
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_what_waits_is_written_together(scribe, writer, storage, commits):
    writing, held = scribe
    for number in range(8):
        writing.record(
            f"run{number}", lambda number=number: write_a_run(writer, f"run{number}") and None
        )
    held.set()
    until(lambda: writing.settled)
    assert len(commits) <= 2
    assert len(finished(writer)) == 8


def test_openings_are_heard_of_only_once_they_are_settled(scribe, writer, storage):
    writing, held = scribe
    heard = []

    def opened(run):
        heard.append((run.name, run.name in finished(writer)))

    writing.open("one", lambda: write_a_run(writer, "one"), opened)
    writing.open("two", lambda: write_a_run(writer, "two"), opened)
    held.set()
    until(lambda: writing.settled)
    assert heard == [("one", True), ("two", True)]


def test_a_refusal_stops_the_scribe_and_keeps_what_stood_before_it(scribe, writer, storage):
    writing, held = scribe
    writing.record("before", lambda: write_a_run(writer, "before") and None)
    writing.record("no-such-run", lambda: writer.log("no-such-run", {"a": 1}, []))
    held.set()
    until(lambda: finished(writer))
    with pytest.raises(MlflowException):
        until(writing.check)


def test_what_comes_last_sees_all_that_was_settled(scribe, writer):
    writing, held = scribe
    heard, at_last = [], []
    writing.record_last(lambda: at_last.extend(heard))
    for number in range(3):
        writing.open(str(number), lambda number=number: number, heard.append)
    held.set()
    until(lambda: writing.settled)
    assert at_last == [0, 1, 2]


# The scribe of a server, which has no transactions


@pytest.fixture
def of_a_server():
    beats = []
    made = Scribe(beat=lambda: beats.append(None), wake=lambda: None)
    yield made, beats
    made.close(10)


def test_requests_about_several_runs_are_under_way_at_the_same_time(of_a_server):
    writing, _ = of_a_server
    all_there = threading.Barrier(4, timeout=30)
    started = threading.Event()
    writing.record("first", lambda: started.wait(30) and None)  # until the others wait
    for number in range(4):
        writing.record(f"run{number}", lambda: all_there.wait() and None)
    started.set()
    until(lambda: writing.settled)
    writing.check()


def test_requests_about_one_run_are_in_order(of_a_server):
    writing, _ = of_a_server
    done = []
    for number in range(30):
        writing.record(f"run{number % 3}", lambda number=number: done.append(number))
    until(lambda: writing.settled)
    for run in range(3):
        assert [number for number in done if number % 3 == run] == list(range(run, 30, 3))


def test_after_an_outage_only_what_had_no_answer_is_requested_again(of_a_server):
    writing, beats = of_a_server
    asked, heard = [], []
    held = threading.Event()

    def away():
        asked.append("away")
        if asked.count("away") < 3:
            raise MlflowException("nobody answers", error_code=TEMPORARILY_UNAVAILABLE)
        return "away"

    writing.record("first", lambda: held.wait(30) and None)
    writing.open("away", away, heard.append)
    writing.open("there", lambda: asked.append("there") or "there", heard.append)
    held.set()
    until(lambda: writing.settled)
    assert sorted(heard) == ["away", "there"]
    assert asked.count("away") == 3
    assert asked.count("there") == 1
    assert len(beats) >= 3  # the lease, before every attempt
    assert writing.was_away
    assert writing.outage is None


def test_a_refusal_by_a_server_stops_the_scribe_at_once_though_others_get_no_answer(of_a_server):
    writing, _ = of_a_server
    held = threading.Event()

    def fails(code):
        raise MlflowException("no", error_code=code)

    writing.record("first", lambda: held.wait(30) and None)
    writing.record("away", lambda: fails(TEMPORARILY_UNAVAILABLE))
    writing.record("refused", lambda: fails(INVALID_PARAMETER_VALUE))
    held.set()
    with pytest.raises(MlflowException, match="no"):
        until(writing.check)
