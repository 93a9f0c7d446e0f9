"""The MLflow server gone, frozen, refusing or slow: computing goes on, nothing is lost."""

from __future__ import annotations

import signal
import threading
from collections import Counter
from contextlib import ExitStack

import pytest
from faulty import RUNS, locked, results, wait_until
from mlflow.tracking import MlflowClient
from server import Server, gate_before
from sqlalchemy import Engine, event

from rfray.driver.sweep_run import prepared, run_sweep
from rfray.driver.watch import progress_words
from rfray.engine.executor import InProcessExecutor
from rfray.engine.frontier import State
from rfray.engine.view import Watcher
from rfray.files.artifacts import file_digest
from rfray.plan import make_plan
from rfray.storage import storage_at
from rfray.study.sweep_file import load_study
from rfray.tracking import Ledger, fetch_artifact

pytestmark = pytest.mark.xdist_group("ledger")

MEANWHILE = 2
LONGEST_SECONDS = 60


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A server whose artifacts do not lie behind it."""
    started = Server(tmp_path_factory.mktemp("server"), serves_artifacts=False)
    yield started
    started.kill()


@pytest.fixture
def impatient():
    """MLflow waits for a locked database for 20 seconds before it says so; here for 2."""

    def shortened(_connection, _cursor, statement, parameters, _context, _many):
        return statement.replace("busy_timeout = 20000", "busy_timeout = 2000"), parameters

    event.listen(Engine, "before_cursor_execute", shortened, retval=True)
    yield
    event.remove(Engine, "before_cursor_execute", shortened)


@pytest.fixture
def quick_timeout(monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "2")


class Trouble:
    """Begins when both trainings have ended and the runs of the next two nodes are open.

    Ends when these have been computed and the driver has noticed.

    Attributes:
        meanwhile: Nodes that were computed while it lasted.
        said: What a person was told.
    """

    def __init__(self, begin, end, *, noticed=True):
        self.begin, self.end, self.noticed = begin, end, noticed
        self.next_are_open = None
        self.computed = 0
        self.meanwhile = 0
        self.said = set()
        self.over = threading.Event()
        self.timer = threading.Timer(LONGEST_SECONDS, self.finish)

    def ended(self, ending):
        self.computed += 1
        if self.computed == 2:
            wait_until(self.next_are_open)
            self.begin()
            self.timer.start()
        elif self.computed > 2 and not self.over.is_set():
            self.meanwhile += 1

    def looked(self, view):
        if view.outage:
            self.said.add(progress_words(view))
        if self.meanwhile >= MEANWHILE and (self.said or not self.noticed):
            self.finish()

    def finish(self):
        if not self.over.is_set():
            self.over.set()
            self.timer.cancel()
            self.end()


def sweep(folder, name, address, trouble):
    plan = make_plan(load_study(str(folder / "faulty.yaml"), [f"name={name}"]))
    storage = storage_at(str(folder / "results"), address)

    def two_prunes_are_open():
        found = Ledger(storage.tracking_uri).runs(name)
        return sum(run.status == "RUNNING" and "/prune" in run.name for run in found) >= 2

    _forget_other_studies(storage.tracking_uri, name)
    trouble.next_are_open = two_prunes_are_open
    watcher = Watcher(ended=trouble.ended, looked=trouble.looked)
    with prepared(plan, storage) as ready:
        frontier = run_sweep(ready, storage, InProcessExecutor, watcher)
    assert set(frontier.states.values()) == {State.DONE}
    assert trouble.over.is_set()
    return list(Ledger(storage.tracking_uri).runs(name))


def _forget_other_studies(tracking_uri, name):
    """The studies of other tests, whose runs this one would take over."""
    client = MlflowClient(tracking_uri)
    for experiment in client.search_experiments():
        if experiment.name not in ("Default", name):
            client.delete_experiment(experiment.experiment_id)


def check(found, undisturbed):
    finished = [run for run in found if run.status == "FINISHED"]
    assert Counter(run.tags["rfray.key"] for run in finished).total() == RUNS
    assert len({run.tags["rfray.key"] for run in finished}) == RUNS
    assert not any(run.status == "RUNNING" for run in found)
    assert results(found) == undisturbed


def test_a_server_that_is_gone_for_a_while(folder, undisturbed, survived, server):
    trouble = Trouble(server.kill, server.start)
    found = sweep(folder, "gone", server.address, trouble)
    check(found, undisturbed)
    assert trouble.meanwhile >= MEANWHILE
    assert any("the tracking store has not answered for" in words for words in trouble.said)
    survived("the MLflow server killed and started anew")


def test_a_server_that_is_frozen(folder, undisturbed, survived, server, quick_timeout):
    trouble = Trouble(lambda: server.send(signal.SIGSTOP), lambda: server.send(signal.SIGCONT))
    found = sweep(folder, "frozen", server.address, trouble)
    check(found, undisturbed)
    assert trouble.meanwhile >= MEANWHILE
    survived("the MLflow server frozen")


def test_a_server_that_refuses(folder, undisturbed, survived, server):
    with gate_before(server) as (gate, address):

        def refuse(whether):
            gate.refuses = whether

        trouble = Trouble(lambda: refuse(True), lambda: refuse(False))
        found = sweep(folder, "refusing", address, trouble)
    check(found, undisturbed)
    assert trouble.meanwhile >= MEANWHILE
    survived("the MLflow server refusing")


def test_a_slow_server_holds_nothing_up(folder, undisturbed, survived, server):
    with gate_before(server) as (gate, address):

        def take(seconds):
            gate.delay = seconds

        trouble = Trouble(lambda: take(0.5), lambda: take(0), noticed=False)
        found = sweep(folder, "slow", address, trouble)
    check(found, undisturbed)
    assert trouble.meanwhile >= MEANWHILE
    survived("the MLflow server slow")


def test_a_locked_database_is_waited_for(folder, undisturbed, survived, impatient):
    database = folder / "results" / "mlflow.db"
    held = ExitStack()
    trouble = Trouble(lambda: held.enter_context(locked(database)), held.close)
    found = sweep(folder, "faulty", None, trouble)
    check(found, undisturbed)
    assert trouble.meanwhile >= MEANWHILE
    survived("the database locked")


@pytest.mark.long
def test_artifacts_behind_a_server_that_is_gone_are_sent_when_it_is_back(
    folder, undisturbed, survived, tmp_path
):
    server = Server(tmp_path, serves_artifacts=True)
    trouble = Trouble(server.kill, server.start)
    # Here a worker waits with its result, so that nothing more is computed: time ends it.
    trouble.timer = threading.Timer(5, trouble.finish)
    found = sweep(folder, "served", server.address, trouble)
    assert Counter(run.status for run in found)["FINISHED"] == RUNS
    for run in found:
        if run.status == "FINISHED":
            for name, digest in undisturbed.digests[run.name].items():
                path = fetch_artifact(run.artifact_uri, name, server.address)
                assert path is not None
                assert file_digest(path) == digest
    server.kill()
    survived("the MLflow server gone while artifacts are sent through it")
