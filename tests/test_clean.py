"""rfray clean, status and weights on a real store: what goes, what stays, what comes again."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
from safetensors.torch import load_file
from tiny_study import TINY_SWEEP

from rfray.cli import main
from rfray.driver.lease import folder_lock
from rfray.driver.sweep_run import prepared, run_sweep, sweep_study
from rfray.engine.executor import InProcessExecutor
from rfray.engine.view import Watcher
from rfray.files.artifacts import local_path
from rfray.plan import make_plan
from rfray.storage import storage_at
from rfray.study.sweep_file import load_study
from rfray.tracking import Ledger
from rfray.training.weight_files import WEIGHT_FILES
from rfray.training.weights import initial_module, save_module

SILENT = Watcher(ended=lambda ending: None, looked=lambda view: None)
SMALL = ("axes.seed=[0]", "hessian=false", "cka=false", "importance=false")
GROWN = (*SMALL, "prune.rates=[0.5,0.9,0.7]")
CELL = "vgg19_rf-digits-k5-seed0"


def sweep(folder, *overrides):
    plan = make_plan(load_study(str(folder / "tiny.yaml"), overrides))
    storage = storage_at(str(folder / "results"), None)
    with prepared(plan, storage) as ready:
        again = [plan.nodes[key].name for key in ready.standing.again]
        run_sweep(ready, storage, InProcessExecutor, SILENT)
    return again


def runs(folder):
    ledger = Ledger(storage_at(str(folder / "results"), None).tracking_uri)
    return {run.name: run for run in ledger.runs("tiny")}


def numbers(run):
    return {name: value for name, value in run.metrics.items() if name != "epoch_seconds"}


def weights_in(folder):
    return {
        name
        for name, run in runs(folder).items()
        for file in WEIGHT_FILES
        if (local_path(run.artifact_uri) / file).is_file()
    }


def said(capsys, folder, command, *arguments):
    """What a command prints; it ends well."""
    place = ("--storage", str(folder / "results"))
    capsys.readouterr()
    with pytest.raises(SystemExit) as left:
        main([command, *map(str, arguments), *place])
    told = capsys.readouterr()
    assert left.value.code == 0, told
    return told.out


def refused(capsys, folder, command, *arguments):
    """The one line of a command that refuses."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as left:
        main([command, *map(str, arguments), "--storage", str(folder / "results")])
    assert left.value.code == 2
    told = capsys.readouterr().err.splitlines()
    (line,) = (line for line in told if not line.startswith("note: "))
    return line


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """The grown study, computed at once; nothing changes it."""
    folder = tmp_path_factory.mktemp("undisturbed")
    (folder / "tiny.yaml").write_text(TINY_SWEEP)
    sweep(folder, *GROWN)
    return folder


def test_a_pruned_and_a_fine_tuned_network_are_written_whole(undisturbed, tmp_path, capsys):
    files = {
        name: tmp_path / f"{name}.safetensors" for name in ("train", "prune-0.9", "finetune-0.9")
    }
    for name, file in files.items():
        said(capsys, undisturbed, "weights", f"{CELL}/{name}", file)
    trained, pruned, tuned = (load_file(file) for file in files.values())
    for name, weight in pruned.items():
        gone = weight == 0
        assert bool((trained[name][~gone] == weight[~gone]).all())
        if name.endswith("conv3.weight"):
            assert bool(gone.any())
            assert bool((tuned[name][gone] == 0).all())
            assert not bool((tuned[name][~gone] == weight[~gone]).all())
    said(capsys, undisturbed, "weights", f"{CELL}/train", tmp_path / "init", "--at", "init")
    cell = make_plan(load_study(str(undisturbed / "tiny.yaml"), SMALL)).cells[0].cell
    save_module(initial_module(cell, "cpu"), tmp_path / "drawn")
    assert (tmp_path / "init").read_bytes() == (tmp_path / "drawn").read_bytes()


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        ([f"{CELL}/prun-0.9", "out"], "did you mean"),
        ([f"{CELL}/prune-0.9", "nowhere/out"], "the file cannot be written"),
        ([f"{CELL}/prune-0.9", "out", "--at", "init"], "only a training run has initial weights"),
    ],
)
def test_weights_that_cannot_be_written_are_told_in_one_line(
    undisturbed, tmp_path, monkeypatch, capsys, arguments, what
):
    monkeypatch.chdir(tmp_path)
    assert what in refused(capsys, undisturbed, "weights", *arguments)
    assert list(tmp_path.iterdir()) == []


def test_clean_then_grow_gives_the_numbers_of_a_study_that_was_never_cleaned(
    undisturbed, tmp_path, capsys
):
    sweep_file = tmp_path / "tiny.yaml"
    sweep_file.write_text(TINY_SWEEP)
    sweep(tmp_path, *SMALL)
    before = runs(tmp_path)
    asked = (sweep_file, *SMALL, "keep=[]")

    listed = json.loads(said(capsys, tmp_path, "clean", *asked, "--json"))
    assert {entry["name"] for entry in listed["files"]} == weights_in(tmp_path) == set(before)
    assert listed["bytes"] == sum(entry["bytes"] for entry in listed["files"]) > 1000

    # A checkpoint that a driver could not remove, of training that is done.
    key = before[f"{CELL}/train"].tags["rfray.key"]
    left = tmp_path / "results" / "checkpoints" / key / "train.safetensors"
    left.parent.mkdir(parents=True)
    left.write_bytes(bytes(10))
    assert "checkpoint" in said(capsys, tmp_path, "clean", *asked, "--yes")
    assert not left.parent.exists()
    assert weights_in(tmp_path) == set()
    cleaned = runs(tmp_path)
    assert {run.status for run in cleaned.values()} == {"FINISHED"}
    assert json.loads(cleaned[f"{CELL}/train"].tags["rfray.withheld"]) == ["model.safetensors"]
    assert "deleted" in refused(capsys, tmp_path, "weights", f"{CELL}/train", tmp_path / "out")
    assert "nothing can be deleted" in said(capsys, tmp_path, "clean", *asked)
    assert sweep(tmp_path, *SMALL) == []  # numbers suffice: nothing is computed again

    # One rate more reads the training run, and nothing else that was dropped.
    assert sweep(tmp_path, *GROWN) == [f"{CELL}/train"]
    after, expected = runs(tmp_path), runs(undisturbed)
    assert set(after) == set(expected)
    for name, run in after.items():
        assert run.status == "FINISHED"
        assert numbers(run) == numbers(expected[name])
        assert run.tags["rfray.digest"] == expected[name].tags["rfray.digest"]
        assert name not in before or run.run_id == before[name].run_id
    assert after[f"{CELL}/train"].tags["rfray.withheld"] == ""
    assert weights_in(tmp_path) == {f"{CELL}/{n}" for n in ("train", "prune-0.7", "finetune-0.7")}


def test_runs_of_an_earlier_sweep_are_named_and_cleaned_when_asked(
    undisturbed, tmp_path, capsys, copied
):
    asked = (copied / "tiny.yaml", *SMALL)
    status = json.loads(said(capsys, copied, "status", *asked, "--json"))
    assert status["left_over"] == [f"{CELL}/prune-0.7", f"{CELL}/finetune-0.7"]
    words = " ".join(said(capsys, copied, "status", *asked).split())
    assert (
        f"2 finished runs are from an earlier sweep and not part of this one: {CELL}/prune-0.7"
        in words
    )
    said(capsys, copied, "clean", *asked, "keep=[train,prune,finetune]", "--left-over", "--yes")
    assert weights_in(copied) == set(runs(copied)) - set(status["left_over"])
    # Kept weights tell what changed from the training run's, which stays for them.
    said(capsys, copied, "clean", *asked, "keep=[finetune]", "--yes")
    assert f"{CELL}/train" in weights_in(copied)
    assert set(runs(copied)) == set(runs(undisturbed))


@pytest.fixture
def copied(undisturbed, tmp_path):
    return Path(shutil.copytree(undisturbed, tmp_path / "copied"))


def test_nothing_is_cleaned_while_a_sweep_runs_or_where_nothing_can_be_written(
    copied, capsys, monkeypatch
):
    asked = (copied / "tiny.yaml", *SMALL, "keep=[]", "--yes")
    with folder_lock(copied / "results", "tiny"):
        line = refused(capsys, copied, "clean", *asked)
    assert "a sweep of 'tiny' already runs on" in line
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK)
    assert "the database cannot be written" in refused(capsys, copied, "clean", *asked)
    monkeypatch.undo()
    assert weights_in(copied) == set(runs(copied))
    assert "has no results here" in refused(capsys, copied, "clean", *asked, "name=other")
    (copied / "results" / "mlflow.db").unlink()
    assert "there are no results here" in refused(capsys, copied, "clean", *asked)


def test_what_is_computed_again_is_said_before_it_starts(copied, capsys):
    from rich.console import Console

    said(capsys, copied, "clean", copied / "tiny.yaml", *GROWN, "keep=[]", "--yes")
    plan = make_plan(load_study(str(copied / "tiny.yaml"), (*SMALL, "prune.rates=[0.6]")))
    storage = storage_at(str(copied / "results"), None)

    def nothing_runs():
        raise ConnectionAbortedError

    with pytest.raises(ConnectionAbortedError):
        sweep_study(plan, storage, nothing_runs, Console(), lambda: False, lambda names: None)
    told = capsys.readouterr().out
    told = " ".join(told.split())
    assert "1 finished run lacks weights that are needed again" in told
    assert f"computed again: {CELL}/train." in told
    assert {run.status for run in runs(copied).values()} == {"FINISHED"}
