"""A sweep in this process, on a real MLflow: what it records, and nothing computed twice."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import pytest
from mlflow.tracking import MlflowClient
from tiny_study import TINY_RUNS

from rfray.cli import main
from rfray.commands.status import by_stage, choice_counts
from rfray.data.cache import prepared as prepared_dataset
from rfray.data.dataset import Dataset, Split
from rfray.data.device import resident
from rfray.driver.sweep_run import prepared, run_sweep
from rfray.driver.watch import result_words
from rfray.engine.executor import Ended, InProcessExecutor
from rfray.engine.frontier import State
from rfray.engine.ground import refuse_what_never_fits
from rfray.engine.places import GIB, Machine, Occupancy
from rfray.engine.standing import other_precision, standing
from rfray.engine.view import Watcher
from rfray.engine.worker import run_job
from rfray.errors import UserError
from rfray.files.artifacts import RESULT, file_digests, local_path
from rfray.plan import make_plan
from rfray.storage import storage_at
from rfray.study.sweep_file import load_study
from rfray.tracking import NOTE_TAG, Ledger, LedgerWriter, RunOpening, make_database
from rfray.training.weights import changed_state


@dataclass
class Recorder:
    """Who is told, and what was."""

    endings: list = field(default_factory=list)

    @property
    def watcher(self):
        return Watcher(ended=self.endings.append, looked=lambda view: None)

    @property
    def names(self):
        return [ending.node.name for ending in self.endings]


def sweep(sweep_file, folder, *overrides, executor=InProcessExecutor):
    plan = make_plan(load_study(str(sweep_file), overrides))
    recorder = Recorder()
    storage = storage_at(str(folder), None)
    with prepared(plan, storage) as ready:
        frontier = run_sweep(ready, storage, executor, recorder.watcher)
    return frontier, recorder


def runs_of(folder, study="tiny"):
    return list(Ledger(storage_at(str(folder), None).tracking_uri).runs(study))


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """One finished tiny sweep; tests that change it take a copy."""
    from tiny_study import TINY_SWEEP

    folder = tmp_path_factory.mktemp("finished")
    path = folder / "tiny.yaml"
    path.write_text(TINY_SWEEP)
    frontier, _ = sweep(path, folder / "results")
    assert set(frontier.states.values()) == {State.DONE}
    return folder


@pytest.fixture
def empty_store(tmp_path):
    folder = tmp_path / "results"
    storage = storage_at(str(folder), None)
    storage.make()
    make_database(storage.database)
    return folder


SHORTER = "hessian=false"
"""For what happens to drivers and runs: the tiny study without its two longest stages."""

SHORTER_RUNS = TINY_RUNS - 2


def by_name(folder):
    return {run.name: run for run in runs_of(folder)}


def test_each_stage_leaves_one_finished_run_with_the_promised_tags_and_params(finished):
    runs = runs_of(finished / "results")
    assert len(runs) == TINY_RUNS
    assert {run.status for run in runs} == {"FINISHED"}
    for run in runs:
        assert {"rfray.stage", "rfray.key", "rfray.version", "rfray.git"} <= set(run.tags)
        assert {"arch", "kernel_size", "receptive_field", "width"} <= set(run.params)
        assert run.params["receptive_field"] == "715"
        assert run.tags["mlflow.note.content"].endswith(".")
    assert by_name(finished / "results")["vgg19_rf-digits-k5/cka"].params["seeds"] == "[0, 1]"


def test_the_study_says_what_it_is_until_somebody_else_does(tiny_sweep, tmp_path):
    def note(*overrides):
        plan = make_plan(load_study(str(tiny_sweep), overrides))
        with prepared(plan, storage_at(str(tmp_path / "results"), None)) as ready:
            return ready.ledger.note(NOTE_TAG), ready.ledger

    words, _ = note()
    assert words.startswith("rfray study, as last planned by rfray ")
    assert ": 2 networks (seed [0, 1]), 14 runs. " in words
    grown, ledger = note("axes.seed=[0,1,2]")
    assert ": 3 networks (seed [0, 1, 2]), " in grown
    ledger.set_note(NOTE_TAG, "For the thesis, chapter 4.")
    assert note()[0] == "For the thesis, chapter 4."


def test_children_stand_under_their_training_run(finished):
    runs = by_name(finished / "results")
    for seed in (0, 1):
        parent = runs[f"vgg19_rf-digits-k5-seed{seed}/train"].run_id
        for child in ("prune-0.5", "prune-0.9", "finetune-0.5", "finetune-0.9", "hessian-init"):
            run = runs[f"vgg19_rf-digits-k5-seed{seed}/{child}"]
            assert run.tags["mlflow.parentRunId"] == parent


def test_metrics_and_artifacts_are_those_of_the_schema(finished):
    client = MlflowClient(storage_at(str(finished / "results"), None).tracking_uri)
    runs = by_name(finished / "results")
    train = runs["vgg19_rf-digits-k5-seed0/train"]
    promised = "train_loss train_accuracy test_loss test_accuracy learning_rate epoch_seconds"
    assert set(train.metrics) == set(promised.split())
    assert [m.step for m in client.get_metric_history(train.run_id, "test_accuracy")] == [1]
    prune = runs["vgg19_rf-digits-k5-seed0/prune-0.9"]
    assert set(prune.metrics) == {"test_accuracy", "accuracy_drop", "sparsity", "live_sparsity"}
    drop = train.metrics["test_accuracy"] - prune.metrics["test_accuracy"]
    assert prune.metrics["accuracy_drop"] == pytest.approx(drop)
    assert prune.metrics["sparsity"] == pytest.approx(0.9, abs=0.02)
    hessian = runs["vgg19_rf-digits-k5-seed0/hessian-init"]
    values = [m.value for m in client.get_metric_history(hessian.run_id, "eigenvalue")]
    assert len(values) == 2
    assert {"eigenvalue", "residual", "trace"} <= set(hessian.metrics)
    artifacts = {
        name: {a.path for a in client.list_artifacts(r.run_id)} for name, r in runs.items()
    }
    assert {"init.json", "model.safetensors"} <= artifacts[train.name]
    for child in ("prune-0.9", "finetune-0.9"):
        assert artifacts[f"vgg19_rf-digits-k5-seed0/{child}"] == {RESULT, "model-changes.npz"}
    assert {"spectrum.csv", "density.csv", "spectrum.png"} <= artifacts[hessian.name]
    assert {"cka.npz", "cka.png"} <= artifacts["vgg19_rf-digits-k5/cka"]
    assert {"pattern.npy", "pattern.png"} <= artifacts["vgg19_rf-k5/importance"]


def artifact_of(finished, run, name):
    record = by_name(finished / "results")[run]
    return Ledger(storage_at(str(finished / "results"), None).tracking_uri).artifact(record, name)


def test_artifacts_hold_what_they_promise(finished):
    cell = "vgg19_rf-digits-k5"
    with np.load(artifact_of(finished, f"{cell}/cka", "cka.npz")) as cka:
        assert cka["matrices"].shape == (1, 17, 17)
        assert cka["layers"][0] == "block1_conv1"
        assert cka["layers"][-1] == "classifier"
        assert cka["pairs"].tolist() == [[0, 1]]
    spectrum = pd.read_csv(artifact_of(finished, f"{cell}-seed0/hessian-init", "spectrum.csv"))
    assert list(spectrum.columns) == ["rank", "eigenvalue", "residual", "converged"]
    density = pd.read_csv(artifact_of(finished, f"{cell}-seed0/hessian-init", "density.csv"))
    area = np.trapezoid(density["density"], density["eigenvalue"])
    assert area == pytest.approx(1, abs=0.02)
    pattern = np.load(artifact_of(finished, "vgg19_rf-k5/importance", "pattern.npy"))
    assert pattern.shape == (32, 32)
    pruned, tuned = (
        changed_state(
            artifact_of(finished, f"{cell}-seed0/{child}", "model-changes.npz").parent,
            artifact_of(finished, f"{cell}-seed0/train", "model.safetensors").parent,
        )
        for child in ("prune-0.9", "finetune-0.9")
    )
    for name, weight in pruned.items():
        if name.endswith("conv3.weight"):
            assert bool((tuned[name][weight == 0] == 0).all())


def test_results_name_their_artifacts_by_digest(finished):
    for run in runs_of(finished / "results"):
        folder = local_path(run.artifact_uri)
        digests = json.loads((folder / RESULT).read_text())["digests"]
        assert digests == {k: v for k, v in file_digests(folder).items() if k != RESULT}


def test_a_second_run_touches_nothing(finished, tmp_path):
    before = runs_of(finished / "results")
    frontier, recorder = sweep(finished / "tiny.yaml", finished / "results")
    assert recorder.endings == []
    assert set(frontier.states.values()) == {State.DONE}
    assert runs_of(finished / "results") == before


def test_status_counts_what_is_there(finished):
    plan = make_plan(load_study(str(finished / "tiny.yaml"), ["axes.seed=[0, 1, 2]"]))
    counts = by_stage(choice_counts(plan, runs_of(finished / "results")))
    assert counts["train"] == Counter(done=2, missing=1)
    assert counts["cka"] == Counter(missing=1)


def test_one_more_seed_runs_that_seed_and_its_groups_alone(finished, tmp_path):
    shutil.copytree(finished / "results", tmp_path / "grown")
    # The copied database still names the artifacts of the original, which stay where they are.
    _, recorder = sweep(finished / "tiny.yaml", tmp_path / "grown", "axes.seed=[0, 1, 2]")
    assert len(recorder.names) == 7
    assert all("seed2" in name or name.endswith("/cka") for name in recorder.names)


def test_finished_runs_get_the_name_and_the_setting_that_a_further_axis_gives_them(
    finished, tmp_path
):
    shutil.copytree(finished / "results", tmp_path / "grown")
    wider = make_plan(
        load_study(str(finished / "tiny.yaml"), ["axes.train.learning_rate=[0.1, 0.2]"])
    )
    before = {run.run_id: run for run in runs_of(tmp_path / "grown")}
    with prepared(wider, storage_at(str(tmp_path / "grown"), None)) as ready:
        assert ready.missing == len(wider.nodes) - len(before)
    for run in runs_of(tmp_path / "grown"):
        node = wider.nodes[run.tags["rfray.key"]]
        assert run.name == node.name
        assert {name: str(value) for name, value in node.settings.items()}.items() <= (
            run.params.items()
        )
        assert before[run.run_id].params.items() <= run.params.items()
    assert any("train.learning_rate" in run.params for run in runs_of(tmp_path / "grown"))
    assert {run.name for run in before.values()} != {
        run.name for run in runs_of(tmp_path / "grown")
    }


class FailsAt(InProcessExecutor):
    """Makes the stage of one run raise."""

    def __init__(self, name):
        super().__init__()
        self.name = name

    def submit(self, job, occupancy, request, machine):
        if job.name == self.name:
            job = job.model_copy(update={"parameters": {"epochs": "broken"}})
        super().submit(job, occupancy, request, machine)


def test_a_failed_stage_skips_its_dependents_and_the_next_start_tries_again(
    tiny_sweep, empty_store
):
    broken = "vgg19_rf-digits-k5-seed1/train"
    frontier, _ = sweep(tiny_sweep, empty_store, SHORTER, executor=lambda: FailsAt(broken))
    states = Counter(frontier.states.values())
    assert states == {State.DONE: 6, State.FAILED: 1, State.SKIPPED: 5}
    failed = by_name(empty_store)[broken]
    assert failed.status == "FAILED"
    assert "epochs" in failed.tags["rfray.traceback"]
    _, recorder = sweep(tiny_sweep, empty_store, SHORTER)
    assert len(recorder.endings) == 6
    runs = runs_of(empty_store)
    assert len(runs) == SHORTER_RUNS
    assert {run.status for run in runs} == {"FINISHED"}
    again = by_name(empty_store)[broken]
    assert again.tags["rfray.attempt"] == "2"
    assert again.tags["rfray.error"] == ""


class DiesAfter(InProcessExecutor):
    """The driver dies when so many jobs have been computed; the last outcome never arrives."""

    def __init__(self, jobs):
        super().__init__()
        self.left = jobs

    def events(self, timeout):
        happened = super().events(timeout)
        self.left -= any(isinstance(event, Ended) for event in happened)
        if self.left == 0:
            raise RuntimeError("the driver dies here")
        return happened


@pytest.mark.parametrize("jobs", [1, 4, 9])
def test_work_whose_driver_died_before_recording_it_is_not_lost(tiny_sweep, empty_store, jobs):
    with pytest.raises(RuntimeError, match="dies here"):
        sweep(tiny_sweep, empty_store, SHORTER, executor=lambda: DiesAfter(jobs))
    # The runs of the next stages are open already.
    assert Counter(run.status for run in runs_of(empty_store))["RUNNING"] >= 1
    frontier, recorder = sweep(tiny_sweep, empty_store, SHORTER)
    assert len(recorder.endings) == SHORTER_RUNS - jobs
    assert set(frontier.states.values()) == {State.DONE}
    runs = runs_of(empty_store)
    assert len(runs) == SHORTER_RUNS
    assert {run.status for run in runs} == {"FINISHED"}
    assert all(run.metrics for run in runs)
    nodes = frontier.plan.nodes
    for run in runs:
        params = nodes[run.tags["rfray.key"]].params
        assert run.params == {name: str(value) for name, value in params.items()}


def test_an_interrupted_sweep_ends_its_open_runs_as_killed_and_resumes_in_them(
    tiny_sweep, empty_store
):
    plan = make_plan(load_study(str(tiny_sweep), [SHORTER]))
    storage = storage_at(str(empty_store), None)
    recorder = Recorder()
    with prepared(plan, storage) as ready, pytest.raises(KeyboardInterrupt):
        run_sweep(
            ready,
            storage,
            InProcessExecutor,
            recorder.watcher,
            stop=lambda: len(recorder.endings) == 2,
        )
    statuses = Counter(run.status for run in runs_of(empty_store))
    assert statuses["FINISHED"] == 2
    assert statuses["KILLED"] >= 1
    assert set(statuses) == {"FINISHED", "KILLED"}
    sweep(tiny_sweep, empty_store, SHORTER)
    assert Counter(run.status for run in runs_of(empty_store)) == {"FINISHED": SHORTER_RUNS}


def test_a_run_that_is_taken_up_bears_the_name_that_it_has_now(tiny_sweep, empty_store):
    further = "axes.train.learning_rate=[0.1, 0.2]"
    wider = make_plan(load_study(str(tiny_sweep), [SHORTER, further]))
    storage = storage_at(str(empty_store), None)
    with prepared(wider, storage) as ready, pytest.raises(KeyboardInterrupt):
        run_sweep(
            ready,
            storage,
            InProcessExecutor,
            Recorder().watcher,
            stop=lambda: bool(opened(storage)),
        )
    frontier, _ = sweep(tiny_sweep, empty_store, SHORTER)
    names = {run.tags["rfray.key"]: run.name for run in runs_of(empty_store)}
    assert {key: names[key] for key in frontier.plan.nodes} == {
        key: node.name for key, node in frontier.plan.nodes.items()
    }


def opened(storage):
    return list(Ledger(storage.tracking_uri).runs("tiny"))


def test_a_run_whose_driver_died_while_it_opened_it_gets_its_params(tiny_sweep, empty_store):
    plan = make_plan(load_study(str(tiny_sweep), [SHORTER]))
    storage = storage_at(str(empty_store), None)
    node = next(iter(plan.nodes.values()))
    ledger = LedgerWriter(storage.tracking_uri, "tiny")
    ledger.open_run(RunOpening(node.name, {"rfray.key": node.key}, params={}))
    sweep(tiny_sweep, empty_store, SHORTER)
    runs = [run for run in runs_of(empty_store) if run.tags["rfray.key"] == node.key]
    assert [run.status for run in runs] == ["FINISHED"]
    assert runs[0].params == {name: str(value) for name, value in node.params.items()}


def test_a_job_whose_artifacts_are_complete_is_not_computed_again(finished, monkeypatch):
    plan = make_plan(load_study(str(finished / "tiny.yaml")))
    stands = standing(plan, runs_of(finished / "results"))
    jobs = []

    class Catches(InProcessExecutor):
        def submit(self, job, occupancy, request, machine):
            jobs.append(job)

        def events(self, timeout):
            if jobs:
                raise RuntimeError("caught")
            return super().events(timeout)

    other = finished / "other"
    with pytest.raises(RuntimeError, match="caught"):
        sweep(finished / "tiny.yaml", other, executor=Catches)
    job = jobs[0]
    done = stands.finished[job.key]
    monkeypatch.setattr("rfray.engine.worker._run_stage", None)
    outcome = run_job(job.model_copy(update={"artifact_uri": done.artifact_uri}), lambda _: None)
    assert outcome.status == "finished"


def test_a_second_driver_on_the_study_is_refused(tiny_sweep, empty_store):
    plan = make_plan(load_study(str(tiny_sweep)))
    storage = storage_at(str(empty_store), None)
    with prepared(plan, storage), pytest.raises(UserError, match=r"already runs on .* since"):  # noqa: SIM117
        with prepared(plan, storage):
            pass


NEVER = [
    ("resources.train.gpus=2", r"resources\.train: asks for 1 CPUs and 2 GPUs on one machine"),
    ("resources.train={cpus: 16, gpus: 1}", "16 CPUs and 1 GPUs on one machine"),
    ("resources.prune.memory=99000000000", "with 92.2 GiB of memory on one machine"),
]


@pytest.mark.parametrize(("override", "says"), NEVER, ids=[override for override, _ in NEVER])
def test_a_request_that_no_machine_can_meet_is_refused(tiny_sweep, override, says):
    # All there is would hold the second request, but no one machine does.
    machines = [Machine(Occupancy(64, 0), 64 * GIB), Machine(Occupancy(8, 1), 64 * GIB)]
    refuse_what_never_fits(make_plan(load_study(str(tiny_sweep))), machines)
    plan = make_plan(load_study(str(tiny_sweep), [override]))
    with pytest.raises(UserError, match=says) as refusal:
        refuse_what_never_fits(plan, machines)
    assert "only 64 CPUs, 0 GPUs and 64.0 GiB, 8 CPUs, 1 GPUs and 64.0 GiB" in str(refusal.value)


def test_a_storage_folder_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        storage_at(str(tmp_path / "file" / "below"), None).make()


def test_relative_sqlite_addresses_do_not_depend_on_the_folder(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert storage_at(None, "sqlite:///here.db").tracking_uri == f"sqlite:///{tmp_path}/here.db"


TWO_DATA_SETS = ("axes.dataset=[cifar10, digits]", "hessian=false", "finetune=false")


@pytest.fixture
def no_downloads(monkeypatch):
    """Whatever is missing stays missing, at once."""

    def refuse(url, path):
        raise OSError(f"{url} cannot be reached")

    monkeypatch.setattr("rfray.data.published._download", refuse)


def test_a_data_set_that_cannot_be_read_stops_its_own_cells_and_is_told_once(
    tiny_sweep, tmp_path, no_downloads
):
    frontier, told = sweep(tiny_sweep, tmp_path / "results", *TWO_DATA_SETS)
    cifar = {
        key: frontier.states[key]
        for key, node in frontier.plan.nodes.items()
        if node.cells[0].dataset == "cifar10" and node.stage != "importance"
    }
    others = {state for key, state in frontier.states.items() if key not in cifar}
    assert others == {State.DONE}
    assert Counter(cifar.values()) == {State.FAILED: 1, State.SKIPPED: len(cifar) - 1}
    (failure,) = [one for one in told.endings if one.outcome.status == "failed"]
    assert failure.skipped == len(cifar) - 1
    words = result_words(failure)
    assert "the data set cifar10 cannot be read on" in words
    assert "cifar-10-python.tar.gz: missing, and the download failed" in words
    assert words.endswith(f"; {len(cifar) - 1} other runs on it are skipped")


def test_runs_that_were_opened_ahead_of_an_unreadable_data_set_are_ended(
    tiny_sweep, tmp_path, no_downloads
):
    sweep(tiny_sweep, tmp_path / "results", *TWO_DATA_SETS)
    statuses = Counter(run.status for run in runs_of(tmp_path / "results"))
    assert statuses["RUNNING"] == 0
    assert statuses["FAILED"] == 1
    killed = [run for run in runs_of(tmp_path / "results") if run.status == "KILLED"]
    assert {run.tags["rfray.error"] for run in killed} <= {
        "not started: the data set cifar10 cannot be read"
    }


def test_once_it_can_be_read_its_cells_are_run(tiny_sweep, tmp_path, no_downloads, monkeypatch):
    sweep(tiny_sweep, tmp_path / "results", *TWO_DATA_SETS)
    monkeypatch.setattr("rfray.data.device.prepared", fake_cifar)
    resident.cache_clear()
    frontier, _ = sweep(tiny_sweep, tmp_path / "results", *TWO_DATA_SETS)
    assert set(frontier.states.values()) == {State.DONE}
    resident.cache_clear()


def test_debians_fashion_mnist_is_swept_as_it_lies_there(
    tiny_sweep, tmp_path, debians_fashion_mnist, monkeypatch
):
    monkeypatch.setenv("RFRAY_DATA", str(tmp_path / "data"))
    overrides = ("axes.dataset=[FashionMNIST@32]", "axes.seed=[0]", "cka=false", "hessian=false")
    frontier, told = sweep(tiny_sweep, tmp_path / "results", *overrides)
    assert set(frontier.states.values()) == {State.DONE}
    accuracies = [e.outcome.last_metrics["test_accuracy"] for e in told.endings if e.node.inputs]
    # Of 10,000 pictures: hundredths of a per cent.
    assert accuracies == [round(accuracy, 2) for accuracy in accuracies]
    assert not list((tmp_path / "data").glob("FashionMNIST*"))


def fake_cifar(source):
    """Noise where CIFAR-10 is asked for."""
    import torch

    if source.facts.name != "cifar10":
        return prepared_dataset(source)
    generator = torch.Generator().manual_seed(0)

    def split(count):
        images = torch.randint(256, (count, 3, 32, 32), dtype=torch.uint8, generator=generator)
        return Split(images, torch.arange(count) % 10)

    return Dataset(source.facts, split(640), split(160))


def test_on_this_machine_it_is_refused_before_anything_starts(
    tiny_sweep, tmp_path, no_downloads, capsys, monkeypatch
):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with pytest.raises(SystemExit) as left:
        main(["sweep", str(tiny_sweep), *TWO_DATA_SETS, "--storage", str(tmp_path / "results")])
    assert left.value.code == 2
    *progress, line = capsys.readouterr().err.strip().splitlines()
    assert progress == ["preparing cifar10"]
    assert "cifar-10-python.tar.gz: missing, and the download failed" in line
    assert runs_of(tmp_path / "results") == []


def test_data_that_finished_runs_have_read_may_be_gone(
    tiny_sweep, tmp_path, no_downloads, monkeypatch
):
    monkeypatch.setattr("rfray.data.device.prepared", fake_cifar)
    resident.cache_clear()
    sweep(tiny_sweep, tmp_path / "results", *TWO_DATA_SETS)
    resident.cache_clear()
    with pytest.raises(SystemExit) as left:
        main(["sweep", str(tiny_sweep), *TWO_DATA_SETS, "--storage", str(tmp_path / "results")])
    assert left.value.code == 0


def test_a_study_that_moves_to_gpus_is_told_that_its_precision_changes(tiny_sweep, tmp_path):
    sweep(tiny_sweep, tmp_path / "results", "hessian=false", "cka=false")
    larger = make_plan(load_study(str(tiny_sweep), ["axes.seed=[0, 1, 2]"]))
    stands = standing(larger, runs_of(tmp_path / "results"))
    assert other_precision(larger, stands, gpus=False) == ""
    words = other_precision(larger, stands, gpus=True)
    assert "finished runs of train and finetune were computed in float32, the missing ones" in words
    assert "will be in bfloat16" in words
    assert "set train.precision" in words
    again = make_plan(load_study(str(tiny_sweep), ["hessian=false", "cka=false"]))
    assert other_precision(again, standing(again, runs_of(tmp_path / "results")), gpus=True) == ""
