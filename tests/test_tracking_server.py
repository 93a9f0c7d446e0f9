"""A sweep against a real MLflow server, artifacts behind it, as on a cluster."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from mlflow.tracking import MlflowClient
from serving import served

from rfray.driver.sweep_run import prepared, run_sweep
from rfray.engine.executor import InProcessExecutor
from rfray.engine.frontier import State
from rfray.engine.view import Watcher
from rfray.plan import make_plan
from rfray.storage import storage_at
from rfray.study.sweep_file import load_study
from rfray.tracking import TAKEN_FROM_TAG, Ledger, fetch_artifacts, store


@pytest.fixture
def server(tmp_path):
    with served(tmp_path) as address:
        yield address


def test_results_lie_behind_the_server_and_are_found_there_again(tiny_sweep, tmp_path, server):
    storage = storage_at(str(tmp_path / "results"), server)
    fewer = ["axes.seed=[0]", "hessian=false", "importance=false", "prune.rates=[0.9]"]
    plan = make_plan(load_study(str(tiny_sweep), fewer))
    endings = []
    watcher = Watcher(ended=endings.append, looked=lambda view: None)

    def sweep(planned=plan):
        with prepared(planned, storage) as ready:
            return run_sweep(ready, storage, InProcessExecutor, watcher)

    assert set(sweep().states.values()) == {State.DONE}
    assert len(endings) == 3
    client = MlflowClient(server)
    experiment = client.get_experiment_by_name("tiny").experiment_id
    runs = {run.info.run_name: run for run in client.search_runs([experiment])}
    train = runs["vgg19_rf-digits-k5-seed0/train"].info
    assert train.artifact_uri.startswith("mlflow-artifacts:")
    names = {artifact.path for artifact in client.list_artifacts(train.run_id)}
    assert {"init.json", "model.safetensors", "result.json"} <= names

    # The driver died before it could end a run whose work was done: it is taken from the server.
    client.update_run(train.run_id, status="RUNNING")
    assert set(sweep().states.values()) == {State.DONE}
    assert len(endings) == 3
    assert client.get_run(train.run_id).info.status == "FINISHED"

    # Another study takes all of it over, through the server.
    assert set(
        sweep(make_plan(load_study(str(tiny_sweep), [*fewer, "name=other"]))).states.values()
    ) == {State.DONE}
    assert len(endings) == 3
    ledger = Ledger(server)
    computed = {run.name: run for run in ledger.runs("tiny")}
    taken = {run.name: run for run in ledger.runs("other")}
    assert taken.keys() == computed.keys()
    for name, run in taken.items():
        theirs = computed[name]
        assert run.tags[TAKEN_FROM_TAG] == theirs.run_id
        assert run.metrics == theirs.metrics
        ours, original = (fetch_artifacts(one.artifact_uri, server) for one in (run, theirs))
        assert contents(ours) == contents(original) != {}


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_each_request_to_a_server_without_tls_makes_a_connection_of_its_own():
    """On one that is used again, an answer of MLflow's server would come 40 ms later."""
    connections = []

    class Recording(BaseHTTPRequestHandler):
        def do_POST(self):
            self.rfile.read(int(self.headers["Content-Length"]))
            connections.append(self.headers["Connection"])
            self.send_response(200)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *words):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Recording) as recording:
        threading.Thread(target=recording.serve_forever).start()
        ledger = Ledger(f"http://127.0.0.1:{recording.server_port}")
        assert ledger.studies() == ledger.studies() == []
        recording.shutdown()
    assert connections == ["close", "close"]


def test_connections_with_tls_are_used_again(monkeypatch):
    monkeypatch.setattr(store, "_spare_the_delay", None)
    Ledger("https://127.0.0.1:9")
