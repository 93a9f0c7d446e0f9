"""What single stages do, each in a folder of its own."""

from __future__ import annotations

import numpy as np
import pytest

from rfray.cell import Cell
from rfray.stages import importance, train
from rfray.stages.stage import StageContext
from rfray.training.weights import load_module

CELL = Cell(dataset="digits", arch="vgg19_rf", kernel_size=5, seed=0, width=0.0625)
PUBLISHED_LARGEST_IMPORTANCE = {  # vgg19_rf, Table 3: mean, standard deviation
    2: (1.24e-5, 2.14e-6),
    3: (2.48e-6, 4.88e-7),
    4: (1.32e-7, 2.48e-8),
    5: (7.26e-8, 1.45e-8),
}


def run(stage, tmp_path, parameters, cell=CELL, checkpoint="checkpoint"):
    """Run one stage that reads nothing; what it reported, and its workspace."""
    workspace, kept = tmp_path / "workspace", tmp_path / checkpoint
    for folder in (workspace, kept):
        folder.mkdir(exist_ok=True)
    reported = []
    stage.run(
        StageContext(
            parameters=parameters,
            variant={},
            cells=(cell,),
            inputs=(),
            workspace=workspace,
            checkpoint=kept,
            device="cpu",
            report=lambda step, metrics: reported.append((step, dict(metrics))),
        )
    )
    return reported, workspace


def protocol(**changes):
    settings = {"epochs": 3, "batch_size": 32, "images_per_epoch": 64, "gradient_clip": 1.0}
    return train.TrainParameters(**{**settings, **changes})


def test_the_best_weights_are_those_of_the_epoch_that_tested_best(tmp_path):
    reported, workspace = run(train, tmp_path, protocol(checkpoint="best", learning_rate=0.5))
    accuracies = [metrics["test_accuracy"] for _, metrics in reported[:3]]
    step, last = reported[3]
    assert step == 4
    assert last["kept_epoch"] == accuracies.index(max(accuracies)) + 1
    assert last["test_accuracy"] == max(accuracies)
    from rfray.data.device import resident
    from rfray.training.evaluate import evaluate

    data = resident("digits", "cpu")
    kept = load_module(CELL, workspace / "model.safetensors", "cpu")
    assert evaluate(kept, data.test, data.facts).accuracy == max(accuracies)


@pytest.mark.parametrize("keep", ["last", "best"])
def test_a_stage_started_anew_on_its_checkpoint_reports_and_leaves_the_same(tmp_path, keep):
    whole, first = run(train, tmp_path, protocol(checkpoint=keep))
    weights = (first / "model.safetensors").read_bytes()
    again, second = run(train, tmp_path, protocol(checkpoint=keep))
    assert again == whole
    assert (second / "model.safetensors").read_bytes() == weights


@pytest.mark.parametrize("kernel_size", PUBLISHED_LARGEST_IMPORTANCE)
def test_importance_at_full_width_is_the_papers(tmp_path, kernel_size):
    cell = Cell(dataset="digits", arch="vgg19_rf", kernel_size=kernel_size, seed=0)
    reported, workspace = run(importance, tmp_path, importance.ImportanceParameters(draws=6), cell)
    mean, deviation = PUBLISHED_LARGEST_IMPORTANCE[kernel_size]
    found = reported[-1][1]["max_importance_mean"]
    assert abs(found - mean) < 2 * deviation
    maxima = [metrics["max_importance"] for _, metrics in reported[:-1]]
    assert found == pytest.approx(np.mean(maxima))
    assert reported[-1][1]["max_importance_std"] == pytest.approx(np.std(maxima, ddof=1))
    assert np.load(workspace / "pattern.npy").shape == (64, 64)


def test_the_true_backward_pass_gives_far_smaller_gradients(tmp_path):
    """ReLUs that block and max-pools that choose: at full width 10 to 20 times smaller."""
    cell = Cell(dataset="digits", arch="vgg19_rf", kernel_size=3, seed=0, width=0.25)
    found = {}
    for backward in ("linear", "true"):
        settings = importance.ImportanceParameters(draws=4, backward=backward)
        found[backward] = run(importance, tmp_path, settings, cell)[0][-1][1]["max_importance_mean"]
    assert 0 < found["true"] < found["linear"] / 3


def test_importance_draws_do_not_depend_on_how_many_there_are(tmp_path):
    few = run(importance, tmp_path, importance.ImportanceParameters(draws=2, image_size=32))[0]
    more = run(importance, tmp_path, importance.ImportanceParameters(draws=3, image_size=32))[0]
    assert few[:2] == more[:2]
