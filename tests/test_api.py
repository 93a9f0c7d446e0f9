"""`import rfray`: what a notebook calls, and the command line as well."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import pytest
import torch
from click.testing import CliRunner
from rich.console import Group
from rich.table import Table
from rich.text import Text
from safetensors.torch import load_file

import rfray
from rfray.cli import rfray as command_line
from rfray.data.device import normalised, resident
from rfray.driver import executors
from rfray.driver.executors import Workers, in_process
from rfray.engine.executor import InProcessExecutor
from rfray.terminal.interruption import Interruption, interrupt
from rfray.terminal.notebook import html
from rfray.training.weights import initial_module

HEAVY = ("torch", "ray", "mlflow", "pandas", "numpy", "pydantic", "rich", "matplotlib")
AXES = {
    "dataset": ["digits"],
    "arch": ["vgg19_rf"],
    "kernel_size": [5],
    "seed": [0, 1],
    "width": [0.0625],
}
TRAIN = {"epochs": 1, "batch_size": 32, "images_per_epoch": 64}
CELL = "vgg19_rf-digits-k5-seed0"


def small(**sections):
    return rfray.Study(**{"name": "small", "axes": AXES, "train": TRAIN, **sections})


def in_a_new_process(code, **options):
    command = [sys.executable, "-W", "error:Cannot set an attribute", "-c", code]
    return subprocess.run(command, capture_output=True, text=True, check=True, **options).stdout


def on_this_process(monkeypatch, workers):
    monkeypatch.setattr(executors, "on_ray", lambda address: workers)


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    """Two networks, trained, pruned and fine-tuned."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        on_this_process(monkeypatch, in_process())
        study = small(prune={"rates": [0.5]}, finetune=TRAIN)
        return rfray.sweep(study, tmp_path_factory.mktemp("api") / "results")


# Importing


def test_importing_it_imports_nothing_heavy():
    code = f"""
import sys, time
began = time.perf_counter()
import rfray
seconds = time.perf_counter() - began
loaded = [name for name in {HEAVY} if name in sys.modules]
import json; print(json.dumps([seconds, loaded]))
"""
    seconds, loaded = json.loads(in_a_new_process(code))
    assert loaded == [], f"import rfray took {seconds:.3f} s"


@pytest.mark.parametrize(
    "imports",
    [
        "import rfray",
        "from rfray.plan import make_plan",
        "import rfray.plan, rfray.sweep",
        "import rfray; rfray.plan; from rfray.plan import Plan; import rfray.sweep",
        "from rfray import plan; import rfray.driver.sweep_run; import rfray.sweep",
        "import importlib; importlib.import_module('rfray.sweep'); import rfray.cli",
    ],
)
def test_functions_are_never_hidden_by_modules_of_their_names(imports):
    code = f"""
{imports}
import rfray
from rfray.plan import make_plan
from rfray import plan, sweep
print(rfray.plan is plan, rfray.sweep is sweep, plan.__module__, sweep.__module__)
"""
    assert in_a_new_process(code).split() == ["True", "True", "rfray.api", "rfray.api"]


def test_all_public_names_are_there_and_no_others():
    assert set(rfray.__all__) <= set(dir(rfray))
    assert all(getattr(rfray, name) for name in rfray.__all__)
    with pytest.raises(AttributeError, match="no attribute 'swept'"):
        _ = rfray.swept


# Studies and plans


def test_a_study_of_keywords_is_the_one_of_a_file_that_says_the_same(tiny_sweep):
    loaded = rfray.Study.load(tiny_sweep, "hessian=false", "train.epochs=2")
    document = loaded.document.model_dump(exclude_unset=True)
    built = rfray.Study(**{**document, "axes": {**document["axes"], "seed": range(2)}})
    assert built.document == loaded.document
    assert rfray.plan(built).plan.nodes.keys() == rfray.plan(loaded).plan.nodes.keys()
    assert "seed=[0, 1]" in repr(built)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"trian": {}}, "unknown key 'trian' (did you mean 'train'?)"),
        ({"axes": {**AXES, "seed": 0}}, "axes.seed"),
        ({"axes": {"arch": ["vgg19_rf"]}}, "the key 'dataset' is missing"),
        ({"finetune": {}}, "the stage 'finetune' reads 'prune'"),
        ({"name": "a b"}, "name"),
    ],
)
def test_a_wrong_study_is_refused_in_one_line(wrong, says):
    with pytest.raises(rfray.UserError) as refused:
        small(**wrong)
    assert says in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_plan_starts_nothing_and_is_a_table(tmp_path):
    planned = rfray.plan(small(), tmp_path / "results")
    assert repr(planned) == "Planned 'small': 2 networks, 2 runs, 2 to do"
    assert f'<td style="text-align: left">{CELL}</td>' in planned._repr_html_()
    assert CELL in str(planned)
    assert not (tmp_path / "results").exists()


def test_the_command_line_plans_the_same(tiny_sweep, tmp_path):
    answer = CliRunner().invoke(
        command_line, ["plan", str(tiny_sweep), "--storage", str(tmp_path), "--json"]
    )
    planned = rfray.plan(rfray.Study.load(tiny_sweep), tmp_path)
    assert json.loads(answer.stdout) == json.loads(json.dumps(planned.as_json()))


def test_what_a_notebook_shows_is_escaped():
    table = Table("<th>")
    table.add_row(Text("<script>"))
    shown = html(Group(Text("a & b"), Text(), table))
    assert shown.startswith("<p>a &amp; b</p>\n<table>")
    assert "&lt;th&gt;" in shown
    assert "&lt;script&gt;" in shown


def test_studies_may_be_worked_on_by_turns(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "plain.py").write_text(
        "from rfray.stages.stage import Stage\n"
        "from rfray.parameters import Parameters\n"
        "class Nothing(Parameters):\n    '''Nothing.'''\n"
        "STAGE = Stage(name='plain', version=1, parameters=Nothing, scope='cell', summary='',\n"
        "    run=lambda context: None, work=lambda parameters, cell: 1.0, reads=('train',),\n"
        "    headline='x')\n"
    )
    before = os.environ["RFRAY_DATA"]
    own = small(name="own", plugins=["plain.py"], plain={}, data={"root": str(tmp_path)})
    other = small()
    assert {node.stage for node in rfray.plan(own).plan.nodes.values()} == {"train", "plain"}
    assert os.environ["RFRAY_DATA"] == str(tmp_path)
    assert {node.stage for node in rfray.plan(other).plan.nodes.values()} == {"train"}
    assert os.environ["RFRAY_DATA"] == before
    assert len(rfray.plan(own).plan.nodes) == 4
    other.use()


# Sweeps and results


def test_a_result_counts_its_runs(result):
    assert (result.finished, result.failed, result.skipped, result.complete) == (6, 0, 0, True)
    assert result.failures() == {}
    assert repr(result) == f"Result 'small': 6 of 6 runs done, in {result.storage.root}"


def test_a_second_sweep_finds_nothing_to_do(result):
    again = rfray.sweep(result.study, result.storage.root)  # and starts no Ray
    assert again.complete
    assert rfray.plan(result.study, result.storage.root).standing.finished.keys() == set(
        result.states
    )


def test_the_frame_is_that_of_the_analysis(result):
    frame = rfray.frame(result)
    assert sorted(frame["stage"]) == ["finetune"] * 2 + ["prune"] * 2 + ["train"] * 2
    for other in (result.study, "small"):
        assert rfray.frame(other, result.storage.root).equals(frame)


def test_a_loaded_network_is_the_one_that_was_measured(result):
    digits = resident("digits", "cpu")
    images = normalised(digits.test.images, digits.facts)
    measured = rfray.frame(result).set_index("name")["test_accuracy"]
    for label in ("train", "prune-0.5", "finetune-0.5"):
        network = result.load(f"{CELL}/{label}")
        assert not network.training
        with torch.inference_mode():
            hits = (network(images).argmax(dim=1) == digits.test.labels).float()
        assert 100 * hits.mean().item() == pytest.approx(measured[f"{CELL}/{label}"], abs=0.3)


def test_a_loaded_network_has_the_weights_that_were_kept(result):
    (record,) = [r for r in result._standing().finished.values() if r.name == f"{CELL}/train"]
    folder = record.artifact_uri.removeprefix("file://")
    loaded = result.load(f"{CELL}/train").state_dict()
    kept = load_file(f"{folder}/model.safetensors")
    assert all(torch.equal(loaded[one], kept[one]) for one in kept)
    drawn = initial_module(result._node(f"{CELL}/train").cells[0], "cpu").state_dict()
    before = result.load(f"{CELL}/train", "init").state_dict()
    assert all(torch.equal(before[one], drawn[one]) for one in drawn)
    pruned = result.load(f"{CELL}/prune-0.5").state_dict()
    assert all(bool(((pruned[one] == 0) | (pruned[one] == kept[one])).all()) for one in kept)


@pytest.mark.parametrize(
    ("run", "at", "says"),
    [
        (f"{CELL}/trian", "trained", f"did you mean '{CELL}/train'?"),
        (f"{CELL}/prune-0.5", "init", "only a training run has initial weights"),
    ],
)
def test_a_network_that_is_not_there_is_told_in_one_line(result, run, at, says):
    with pytest.raises(rfray.UserError) as refused:
        result.load(run, at)
    assert says in str(refused.value)


def test_results_that_are_not_there_are_told_in_one_line(result, tmp_path):
    with pytest.raises(rfray.UserError, match="there are no results here"):
        rfray.frame("small", tmp_path)
    with pytest.raises(rfray.UserError, match="did you mean 'small'"):
        rfray.frame("smal", result.storage.root)


def test_a_network_of_a_file_is_loaded_too(tmp_path, monkeypatch):
    on_this_process(monkeypatch, in_process())
    monkeypatch.chdir(tmp_path)
    (tmp_path / "nets.py").write_text(
        "from torch import nn\n"
        "def tiny(classes):\n"
        "    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1),\n"
        "        nn.Flatten(), nn.Linear(4, classes))\n"
    )
    axes = {**AXES, "arch": ["nets.py:tiny"], "kernel_size": [1], "seed": [0], "width": [1.0]}
    result = rfray.sweep(small(axes=axes), "results")
    (node,) = result.plan.nodes.values()
    small()  # another study, which knows no such folder
    monkeypatch.chdir("/")
    assert result.load(node.name)(torch.zeros(2, 3, 32, 32)).shape == (2, 10)


class FailsToPrune(InProcessExecutor):
    def submit(self, job, occupancy, request, machine):
        wrong = job.stage == "prune"
        job = job.model_copy(update={"fingerprint": "other"}) if wrong else job
        super().submit(job, occupancy, request, machine)


def test_a_failure_is_told_by_the_result_and_does_not_raise(tmp_path, monkeypatch):
    failing = Workers(lambda *_: FailsToPrune(), lambda names: None, leaves_the_terminal=False)
    on_this_process(monkeypatch, failing)
    axes = {**AXES, "seed": [0]}
    result = rfray.sweep(small(axes=axes, prune={"rates": [0.5]}, finetune=TRAIN), tmp_path)
    assert (result.finished, result.failed, result.skipped) == (1, 1, 1)
    assert not result.complete
    assert list(result.failures()) == [f"{CELL}/prune-0.5"]
    assert repr(result).startswith("Result 'small': 1 of 3 runs done, 1 failed, 1 skipped")
    assert len(rfray.frame(result)) == 1
    with pytest.raises(rfray.UserError, match="this run is not done"):
        result.load(f"{CELL}/prune-0.5")


# Interruption


class InterruptedAfterOne(InProcessExecutor):
    """Somebody presses Control-C as the first job has ended."""

    def events(self, timeout):
        events = super().events(timeout)
        if events:
            os.kill(os.getpid(), signal.SIGINT)
        return events


def test_control_c_keeps_what_is_done(tmp_path, monkeypatch):
    def executor(plan, tune, started):
        started()
        return InterruptedAfterOne()

    on_this_process(monkeypatch, Workers(executor, lambda names: None, leaves_the_terminal=False))
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt, match="finished runs are kept"):
        rfray.sweep(small(), tmp_path)
    assert signal.getsignal(signal.SIGINT) is before
    assert list(rfray.frame("small", tmp_path)["name"]) == [f"{CELL}/train"]
    on_this_process(monkeypatch, in_process())
    assert rfray.sweep(small(), tmp_path).complete


def test_a_second_control_c_insists_and_the_first_one_only_asks():
    with Interruption(interrupt) as interruption:
        interruption.listen()
        os.kill(os.getpid(), signal.SIGINT)
        assert interruption.asked
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
