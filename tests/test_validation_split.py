"""Training with a validation split: what is measured on it, and that it alone chooses."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from test_stages import DiedError, protocol, run, without_times
from tiny_study import TINY_SWEEP

from rfray.cell import Cell
from rfray.data import device
from rfray.data.dataset import Split
from rfray.driver.sweep_run import prepared, run_sweep
from rfray.engine.executor import InProcessExecutor
from rfray.engine.frontier import State
from rfray.engine.view import Watcher
from rfray.plan import make_plan
from rfray.stages import finetune, train
from rfray.stages.stage import Input
from rfray.storage import storage_at
from rfray.study.sweep_file import load_study
from rfray.tracking import Ledger
from rfray.training.evaluate import evaluate
from rfray.training.weights import initial_module, load_changed, load_module, save_module

WHOLE = Cell(dataset="digits", arch="vgg19_rf", kernel_size=5, seed=0, width=0.0625)
CELL = Cell(**{**WHOLE.model_dump(), "validation": 300})
JUMPY = protocol(checkpoint="best", learning_rate=0.5, epochs=4)


@pytest.fixture
def data():
    return device.resident("digits", "cpu", CELL.validation)


@pytest.fixture
def other_test_images(monkeypatch, data):
    """The same data set, but all that its test split could tell is garbage."""
    labels = torch.zeros_like(data.test.labels)
    garbage = replace(data, test=Split(torch.zeros_like(data.test.images), labels))
    monkeypatch.setattr(device, "resident", lambda *_: garbage)


def accuracies(reported, split, epochs=4):
    return [metrics[f"{split}_accuracy"] for _, metrics in reported[:epochs]]


def kept_epoch(reported):
    return next(metrics["kept_epoch"] for _, metrics in reported if "kept_epoch" in metrics)


def test_every_epoch_is_measured_on_the_images_held_out(tmp_path, data):
    reported, workspace = run(train, tmp_path, protocol(), CELL)
    assert [step for step, _ in reported] == [1, 2, 3]
    module = load_module(CELL, workspace / "model.safetensors", "cpu")
    found = evaluate(module, data.validation, data.facts)
    assert reported[-1][1]["validation_loss"] == pytest.approx(found.loss)
    assert reported[-1][1]["validation_accuracy"] == found.accuracy
    assert {"test_loss", "test_accuracy"} <= set(reported[-1][1])


def test_without_a_split_nothing_is_validated(tmp_path):
    reported, _ = run(train, tmp_path, protocol(), WHOLE)
    assert not any("validation" in name for _, metrics in reported for name in metrics)


def test_the_best_epoch_is_the_best_on_the_images_held_out(tmp_path, data):
    reported, workspace = run(train, tmp_path, JUMPY, CELL)
    validated = accuracies(reported, "validation")
    step, last = reported[4]
    assert (step, last["kept_epoch"]) == (5, validated.index(max(validated)) + 1)
    kept = reported[last["kept_epoch"] - 1][1]
    names = {"test_loss", "test_accuracy", "validation_loss", "validation_accuracy"}
    assert {name: last[name] for name in names} == {name: kept[name] for name in names}
    module = load_module(CELL, workspace / "model.safetensors", "cpu")
    assert evaluate(module, data.validation, data.facts).accuracy == max(validated)
    assert len(reported) == 5, "nothing is to be remarked"


@pytest.mark.usefixtures("other_test_images")
def test_the_test_images_play_no_part_in_the_choice(tmp_path, monkeypatch):
    (tmp_path / "garbage").mkdir()
    garbled, other = run(train, tmp_path / "garbage", JUMPY, CELL)
    weights = (other / "model.safetensors").read_bytes()
    monkeypatch.undo()
    (tmp_path / "real").mkdir()
    reported, workspace = run(train, tmp_path / "real", JUMPY, CELL)
    assert accuracies(garbled, "test") != accuracies(reported, "test")
    assert kept_epoch(garbled) == kept_epoch(reported)
    assert (workspace / "model.safetensors").read_bytes() == weights


def test_a_choice_on_the_test_images_is_remarked(tmp_path):
    reported, _ = run(train, tmp_path, protocol(checkpoint="best"), WHOLE)
    remarks = [metrics["remark"] for _, metrics in reported if "remark" in metrics]
    assert remarks == [
        f"Epoch {kept_epoch(reported)} was kept: it is the best on the test images themselves."
    ]


@pytest.mark.parametrize("dies_at", [1, 3])
def test_an_interrupted_run_keeps_the_same_epoch(tmp_path, dies_at):
    for name in ("whole", "cut"):
        (tmp_path / name).mkdir()
    whole, first = run(train, tmp_path / "whole", JUMPY, CELL)
    weights = (first / "model.safetensors").read_bytes()
    with pytest.raises(DiedError):
        run(train, tmp_path / "cut", JUMPY, CELL, dies_at=dies_at)
    again, second = run(train, tmp_path / "cut", JUMPY, CELL)
    assert without_times(again) == without_times(whole)
    assert (second / "model.safetensors").read_bytes() == weights


def test_no_image_that_is_held_out_is_trained_on(data):
    held_out = {image.numpy().tobytes() for image in data.validation.images}
    assert not any(image.numpy().tobytes() in held_out for image in data.train.images)


def test_fine_tuning_is_measured_on_them_too(tmp_path, data):
    dense = Input(stage="train", cell=CELL, folder=tmp_path, metrics={"test_accuracy": 50.0})
    save_module(initial_module(CELL, "cpu"), tmp_path / "model.safetensors")
    inputs = (dense, Input(stage="prune", cell=CELL, folder=tmp_path, metrics={}))
    settings = finetune.FinetuneParameters(epochs=2, images_per_epoch=64)
    reported, workspace = run(finetune, tmp_path, settings, CELL, inputs=inputs)
    module = load_changed(CELL, workspace, tmp_path, "cpu")
    found = evaluate(module, data.validation, data.facts)
    assert reported[-1][1]["validation_accuracy"] == found.accuracy
    assert reported[-1][1]["validation_loss"] == pytest.approx(found.loss)


def test_in_a_sweep_every_stage_sees_what_is_left_and_mlflow_holds_the_rest(tmp_path, monkeypatch):
    seen = []
    original = device.resident

    def resident(name, where, validation=None):
        seen.append(validation)
        return original(name, where, validation)

    monkeypatch.setattr(device, "resident", resident)
    path = tmp_path / "tiny.yaml"
    path.write_text(TINY_SWEEP)
    plan = make_plan(load_study(str(path), ["data.validation=0.2", "prune.rates=[0.5]"]))
    storage = storage_at(str(tmp_path / "results"), None)
    with prepared(plan, storage) as ready:
        watcher = Watcher(ended=lambda _: None, looked=lambda _: None)
        frontier = run_sweep(ready, storage, InProcessExecutor, watcher)
    assert set(frontier.states.values()) == {State.DONE}
    assert len(seen) >= sum(node.stage != "importance" for node in plan.nodes.values())
    assert set(seen) == {0.2}
    runs = {run.name: run for run in Ledger(storage.tracking_uri).runs("tiny")}
    trained = runs["vgg19_rf-digits-k5-seed0/train"]
    assert trained.params["validation_images"] == "287"
    assert trained.params["train_images"] == "1146"
    assert 0 <= trained.metrics["validation_accuracy"] <= 100
    assert "validation_loss" in runs["vgg19_rf-digits-k5-seed0/finetune-0.5"].metrics
