"""The command line as a person uses it: a real process, real Ray, real MLflow, real exit codes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from command_line import rfray, rfray_anew
from mlflow.tracking import MlflowClient
from tiny_study import TINY_RUNS

from rfray.storage import storage_at


def runs_of(folder, study="tiny"):
    client = MlflowClient(storage_at(str(folder), None).tracking_uri)
    experiment = client.get_experiment_by_name(study)
    return client.search_runs([experiment.experiment_id]) if experiment else []


USAGE_ERRORS = [
    (["sweep", "trian.epochs=1"], "did you mean 'train'?"),
    (["sweep", "--address", "127.0.0.1:9"], "no Ray cluster answers"),
    (["sweep", "resources.train.cpus=4096"], "asks for 4096 CPUs"),
]
"""In a process of their own; test_messages.py holds all that start no Ray."""


@pytest.mark.parametrize(("arguments", "says"), USAGE_ERRORS, ids=lambda v: str(v)[:50])
def test_a_mistake_gives_one_line_exit_code_2_and_starts_nothing(tmp_path, arguments, says):
    environment = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}
    result = rfray_anew(*arguments, cwd=tmp_path, environment=environment)
    assert result.returncode == 2, result.stderr
    *progress, line = result.stderr.strip().splitlines()
    assert progress in ([], ["preparing digits"]), result.stderr
    assert line.startswith("rfray: ")
    assert says in line
    assert runs_of(tmp_path / "rfray-results", "quickstart") == []


@pytest.mark.parametrize(
    ("command", "example"),
    [
        ("plan", "rfray plan paper --slots 64 --price 2.5"),
        ("sweep", "rfray sweep quickstart axes.seed=[0,1,2]"),
        ("analyze", "rfray analyze --out out"),
        ("status", "rfray status"),
        ("clean", "rfray clean"),
        ("weights", "rfray weights vgg19_rf-digits-k3-seed0/prune-0.9 pruned.safetensors"),
        ("doctor", "rfray doctor"),
        ("schema", "rfray schema > sweep.schema.json"),
    ],
)
def test_help_shows_examples_line_by_line(tmp_path, command, example):
    lines = rfray(command, "--help", cwd=tmp_path).stdout.splitlines()
    assert f"  {example}" in lines


def test_help_names_every_command(tmp_path):
    result = rfray("--help", cwd=tmp_path)
    assert result.returncode == 0
    assert all(command in result.stdout for command in ("plan", "sweep", "status", "analyze"))


def test_the_plan_is_printed_and_starts_nothing(tmp_path):
    result = rfray("plan", "--json", cwd=tmp_path)
    assert json.loads(result.stdout)["totals"]["runs"] == 320
    assert "715" in rfray("plan", cwd=tmp_path).stdout
    assert list(tmp_path.iterdir()) == []


def test_a_sweep_in_this_process_needs_no_ray_and_machines_read_what_came_of_it(
    tiny_sweep, tmp_path
):
    first = ("axes.seed=[0]", "hessian=false", "importance=false", "--storage", "here")
    # A module of the same name in the working folder stands for Ray, and cannot be imported.
    (tmp_path / "ray.py").write_text("raise ImportError('Ray is not wanted here')\n")
    swept = rfray_anew("sweep", tiny_sweep, *first, "--in-process", cwd=tmp_path)
    assert swept.returncode == 0, swept.stdout + swept.stderr
    assert Counter(run.info.status for run in runs_of(tmp_path / "here")) == {"FINISHED": 5}

    status = json.loads(rfray_anew("status", tiny_sweep, *first, "--json", cwd=tmp_path).stdout)
    assert status["totals"]["done"] == 5
    analysed = json.loads(rfray_anew("analyze", "--storage", "here", "--json", cwd=tmp_path).stdout)
    assert analysed["study"] == "tiny"
    assert analysed["stages"]["prune"]["done"] == 2
    assert all(Path(path).is_file() for path in analysed["written"])


@pytest.mark.ray
def test_a_sweep_through_ray_and_mlflow_killed_resumed_and_analysed(tiny_sweep, tmp_path):
    results = tmp_path / "results"
    command = [sys.executable, "-m", "rfray.sweep", str(tiny_sweep), "--storage", str(results)]

    # Killed with SIGKILL as soon as something is finished.
    driver = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    finished = wait_for_finished(results, driver, at_least=3)
    os.killpg(driver.pid, signal.SIGKILL)
    driver.wait()
    before = {run.info.run_id: run for run in runs_of(results) if run.info.status == "FINISHED"}
    assert finished <= len(before) < TINY_RUNS

    # Resumed: what was finished is not touched, and every stage has one finished run.
    resumed = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert resumed.returncode == 0, resumed.stdout + resumed.stderr
    assert "mlflow ui --backend-store-uri sqlite:////" in resumed.stdout
    assert "rfray analyze" in resumed.stdout
    runs = runs_of(results)
    assert Counter(run.info.status for run in runs) == {"FINISHED": TINY_RUNS}
    assert len({run.data.tags["rfray.key"] for run in runs}) == TINY_RUNS
    after = {run.info.run_id: run for run in runs}
    for run_id, run in before.items():
        assert after[run_id].info.end_time == run.info.end_time

    # Again: nothing to do, no run touched.
    again = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert again.returncode == 0
    assert f"all {TINY_RUNS} runs are done" in again.stdout
    assert {r.info.run_id: r.info.end_time for r in runs_of(results)} == {
        run_id: run.info.end_time for run_id, run in after.items()
    }

    # Status and analysis read it.
    status = rfray("status", tiny_sweep, "--storage", results, "--json", cwd=tmp_path)
    assert json.loads(status.stdout)["totals"]["done"] == TINY_RUNS
    analysis = rfray(
        "analyze", "--study", "tiny", "--storage", results, "--out", "out", cwd=tmp_path
    )
    assert analysis.returncode == 0, analysis.stderr
    assert (tmp_path / "out" / "summary.md").is_file()


SEARCHED = [
    "axes.dataset=[digits]", "axes.arch=[vgg19_rf]", "axes.width=[0.125]", "axes.kernel_size=[5]",
    "axes.seed=[0]", "data.validation=300", "train.epochs=2", "train.batch_size=32",
    "train.images_per_epoch=256", "search.samples=5", "search.algorithm=optuna", "search.startup=3",
    "search.at_once=2", "prune=false", "finetune=false", "hessian=false", "cka=false",
    "importance=false", "name=tiny",
]  # fmt: skip


@pytest.mark.ray
def test_a_search_by_asha_and_optuna_runs_its_samples_as_trials(tmp_path):
    command = [sys.executable, "-m", "rfray.sweep", "tuned", *SEARCHED, "--storage", str(tmp_path)]
    swept = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert swept.returncode == 0, swept.stdout + swept.stderr
    runs = runs_of(tmp_path)
    assert Counter((run.data.tags["rfray.stage"], run.info.status) for run in runs) == {
        ("sample", "FINISHED"): 5, ("search", "FINISHED"): 1, ("train", "FINISHED"): 1,
    }  # fmt: skip


def wait_for_finished(results, driver, at_least):
    deadline = time.monotonic() + 200
    while time.monotonic() < deadline:
        assert driver.poll() is None, "the driver ended too soon"
        if (results / "mlflow.db").is_file():
            found = sum(run.info.status == "FINISHED" for run in runs_of(results))
            if found >= at_least:
                return found
        time.sleep(0.2)
    raise AssertionError(f"never {at_least} runs FINISHED")
