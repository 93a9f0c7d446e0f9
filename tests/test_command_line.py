"""The command line as a person uses it: a real process, real Ray, real MLflow, real exit codes."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from command_line import rfray, rfray_anew
from mlflow.tracking import MlflowClient

from rfray.storage import storage_at


def runs_of(folder, study="tiny"):
    client = MlflowClient(storage_at(str(folder), None).tracking_uri)
    experiment = client.get_experiment_by_name(study)
    return client.search_runs([experiment.experiment_id]) if experiment else []


USAGE_ERRORS = [
    (["sweep", "trian.epochs=1"], "did you mean 'train'?"),
    (["sweep", "--address", "127.0.0.1:9"], "no Ray cluster answers"),
]
"""In a process of their own; test_messages.py holds others, test_ray_cluster.py those of Ray."""


@pytest.mark.parametrize(("arguments", "says"), USAGE_ERRORS, ids=lambda v: str(v)[:50])
def test_a_mistake_gives_one_line_exit_code_2_and_starts_nothing(tmp_path, arguments, says):
    result = rfray_anew(*arguments, cwd=tmp_path)
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


def test_a_reader_that_has_seen_enough_is_no_error(tmp_path):
    """As `| head` is: it closes the pipe."""
    shell = f"set -o pipefail; {sys.executable} -m rfray.cli reference | head -n 1"
    read = subprocess.run(["bash", "-c", shell], capture_output=True, text=True, check=False)
    assert (read.returncode, read.stderr) == (0, "")
    assert read.stdout.startswith("# ")


def test_the_plan_is_printed_and_starts_nothing(tmp_path):
    result = rfray("plan", "--json", cwd=tmp_path)
    assert json.loads(result.stdout)["totals"]["runs"] == 320
    assert "715" in rfray("plan", cwd=tmp_path).stdout
    assert list(tmp_path.iterdir()) == []


def test_a_sweep_in_this_process_needs_no_ray_and_machines_read_what_came_of_it(
    tiny_sweep, tiny_report, tmp_path
):
    first = ("axes.seed=[0]", "hessian=false", "importance=false", "--storage", "here")
    # A module of the same name in the working folder stands for Ray, and cannot be imported.
    (tmp_path / "ray.py").write_text("raise ImportError('Ray is not wanted here')\n")
    command = [sys.executable, "-m", "rfray.cli", "sweep", str(tiny_sweep), *first, "--in-process"]
    swept = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert swept.returncode == 0, swept.stdout + swept.stderr
    assert Counter(run.info.status for run in runs_of(tmp_path / "here")) == {"FINISHED": 5}

    status = json.loads(rfray("status", tiny_sweep, *first, "--json", cwd=tmp_path).stdout)
    assert status["totals"]["done"] == 5
    analysed = json.loads(
        rfray("analyze", tiny_report, "--storage", "here", "--json", cwd=tmp_path).stdout
    )
    assert analysed["study"] == "tiny"
    assert analysed["stages"]["prune"]["done"] == 2
    assert all(Path(path).is_file() for path in analysed["written"])


SEARCH = """\
data: {validation: 300}
search:
  {space: {train.learning_rate: {log_uniform: [1e-4, 1]}}, samples: 3, per: [kernel_size],
   metric: validation_accuracy, algorithm: optuna, scheduler: asha, startup: 2, at_once: 2}
"""
SEARCHED_RUNS = Counter(
    {"sample": 3, "search": 1, "train": 2, "prune": 4, "finetune": 4, "hessian": 2, "cka": 1,
     "importance": 1}
)  # fmt: skip


@pytest.mark.ray
def test_a_sweep_through_ray_and_mlflow_with_a_search_does_nothing_twice_and_is_analysed(
    tiny_sweep, tiny_report, tmp_path
):
    """As the README has it; the tests of `faults` kill it."""
    with tiny_sweep.open("a") as file:
        file.write(SEARCH)
    results = tmp_path / "results"
    words = ["train.epochs=2", "train.images_per_epoch=128", "--storage", str(results)]
    command = [sys.executable, "-m", "rfray.sweep", str(tiny_sweep), *words]
    swept = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert swept.returncode == 0, swept.stdout + swept.stderr
    assert "mlflow ui --backend-store-uri sqlite:////" in swept.stdout
    assert "rfray analyze" in swept.stdout
    runs = runs_of(results)
    assert {run.info.status for run in runs} == {"FINISHED"}
    assert Counter(run.data.tags["rfray.stage"] for run in runs) == SEARCHED_RUNS
    assert len({run.data.tags["rfray.key"] for run in runs}) == len(runs)

    # Again: nothing to do, no run touched.
    again = rfray("sweep", tiny_sweep, *words, cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert f"all {len(runs)} runs are done" in again.stdout
    assert {run.info.run_id: run.info.end_time for run in runs_of(results)} == {
        run.info.run_id: run.info.end_time for run in runs
    }

    # Status and analysis read it.
    status = rfray("status", tiny_sweep, *words, "--json", cwd=tmp_path)
    assert json.loads(status.stdout)["totals"]["done"] == len(runs)
    analysis = rfray("analyze", tiny_report, "--storage", results, "--out", "out", cwd=tmp_path)
    assert analysis.returncode == 0, analysis.stderr
    assert (tmp_path / "out" / "summary.md").is_file()
