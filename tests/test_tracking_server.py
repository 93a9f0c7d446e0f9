"""A sweep against a real MLflow server, artifacts behind it, as on a cluster."""

from __future__ import annotations

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

    def sweep():
        with prepared(plan, storage) as ready:
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
