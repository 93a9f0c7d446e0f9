"""The barrier stage: known answers, and each number against a network built by hand."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from rfray.cell import Cell
from rfray.data.device import normalised, resident
from rfray.data.subset import fixed_subset
from rfray.models.permutations import channel_groups, permuted_state
from rfray.plan import make_plan
from rfray.stages import barrier, train
from rfray.stages.stage import Input, StageContext
from rfray.study.sweep_file import load_study
from rfray.training.weights import initial_module, load_module, save_module

WIDTH = 0.0625
SETTINGS = {"points": 5, "train_images": 64, "statistics_images": 40}


def cell(seed, arch="vgg19_rf", width=WIDTH, kernel_size=5):
    return Cell(dataset="digits", arch=arch, kernel_size=kernel_size, seed=seed, width=width)


def trained_like(one, seed):
    """A network whose numbers differ enough from those of another seed to lose its way."""
    module = initial_module(one, "cpu")
    drawn = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in module.state_dict().items():
            if name.endswith("running_var") or (tensor.dim() and "norm" in name):
                tensor.add_(torch.rand(tensor.shape, generator=drawn))
            elif tensor.dim():
                tensor.mul_(2)
    return module


def left(module, one, folder, **metrics):
    """A training run that left this network."""
    folder.mkdir(parents=True, exist_ok=True)
    save_module(module, folder / "model.safetensors")
    return Input(stage="train", cell=one, folder=folder, metrics=metrics)


@pytest.fixture(scope="module")
def networks(tmp_path_factory):
    folder = tmp_path_factory.mktemp("networks")
    return [
        left(trained_like(cell(seed), seed), cell(seed), folder / str(seed)) for seed in range(3)
    ]


def measured(inputs, tmp_path, **settings):
    """Run the stage: its last metrics, barrier.csv, and its remarks."""
    reported, remarks = [], []
    tmp_path.mkdir(exist_ok=True)
    barrier.run(
        StageContext(
            parameters=barrier.BarrierParameters(**{**SETTINGS, **settings}),
            variant={},
            cells=tuple(source.cell for source in inputs),
            inputs=tuple(inputs),
            workspace=tmp_path,
            checkpoint=tmp_path,
            device="cpu",
            report=lambda step, metrics: reported.append((step, dict(metrics))),
            remark=remarks.append,
        )
    )
    metrics = {name: value for _, some in reported for name, value in some.items()}
    assert (tmp_path / "barrier.png").stat().st_size > 1000
    return metrics, pd.read_csv(tmp_path / "barrier.csv"), remarks


# Known answers


@pytest.mark.parametrize("align", ["none", "weights"])
def test_a_network_has_no_barrier_with_itself(networks, tmp_path, align):
    again = Input("train", cell(7), networks[0].folder, {})
    metrics, frame, _ = measured([networks[0], again], tmp_path, align=align)
    assert frame["test_loss"].nunique() == frame["train_accuracy"].nunique() == 1
    assert metrics["loss_barrier_mean"] == pytest.approx(0, abs=1e-12)
    assert metrics["accuracy_barrier_mean"] == 0


def truly_trained(one, folder):
    """What a short training makes."""
    folder.mkdir()
    settings = {"epochs": 1, "batch_size": 32, "images_per_epoch": 896, "gradient_clip": 1.0}
    train.run(
        StageContext(
            parameters=train.TrainParameters(**settings, learning_rate=0.1),
            variant={},
            cells=(one,),
            inputs=(),
            workspace=folder,
            checkpoint=folder,
            device="cpu",
            report=lambda step, metrics: None,
            remark=print,
        )
    )
    return load_module(one, folder / "model.safetensors", "cpu")


def test_a_permuted_copy_has_a_barrier_that_alignment_takes_away(tmp_path):
    one, other = cell(0, kernel_size=3), cell(1, kernel_size=3)
    module = truly_trained(one, tmp_path / "train")
    groups = channel_groups(module.network, one.facts.image_size)
    orders = [np.random.default_rng(0).permutation(group.size) for group in groups]
    state = permuted_state(module.state_dict(), groups, orders)
    first = left(module, one, tmp_path / "first")
    module.load_state_dict(state)
    second = left(module, other, tmp_path / "second")
    apart, _, _ = measured([first, second], tmp_path / "none", points=3)
    together, frame, _ = measured([first, second], tmp_path / "weights", align="weights", points=3)
    assert apart["loss_barrier_mean"] > 0.5
    assert apart["accuracy_barrier_mean"] > 20
    assert together["loss_barrier_mean"] == pytest.approx(0, abs=1e-5)
    assert together["accuracy_barrier_mean"] == 0
    assert np.ptp(frame["test_loss"]) < 1e-5


SOFTMAX_REGRESSION = """\
from torch import nn

def regression(classes):
    return nn.Sequential(nn.Conv2d(3, classes, 32), nn.Flatten())
"""


def test_a_convex_model_is_never_above_the_line(tmp_path, monkeypatch):
    (tmp_path / "convex.py").write_text(SOFTMAX_REGRESSION)
    monkeypatch.setenv("RFRAY_NETWORKS", str(tmp_path))
    sources = []
    for seed in range(3):
        one = cell(seed, "convex.py:regression", 1.0, 1)
        module = initial_module(one, "cpu")
        with torch.no_grad():
            module.get_parameter("0.weight").mul_(5)
        sources.append(left(module, one, tmp_path / str(seed)))
    metrics, frame, _ = measured(sources, tmp_path / "out")
    assert metrics["loss_barrier_mean"] == pytest.approx(0, abs=1e-6)
    assert metrics["train_loss_barrier_mean"] == pytest.approx(0, abs=1e-6)
    ends = frame[frame["point"] == 0]["test_loss"].to_numpy()
    middle = frame[frame["point"] == 2]["test_loss"].to_numpy()
    assert (middle < ends.max()).all()


# A slow reference


def by_hand(first, second, alpha, batch_norm):
    """Train and test loss and accuracy of the mixture, each number mixed and each image counted."""
    module = load_module(cell(0), first.artifact("model.safetensors"), "cpu").double()
    other = load_module(cell(0), second.artifact("model.safetensors"), "cpu").double()
    with torch.no_grad():
        for mine, theirs in zip(
            module.state_dict().values(), other.state_dict().values(), strict=True
        ):
            if mine.is_floating_point():
                mine.copy_((1 - alpha) * mine + alpha * theirs)
    data = resident("digits", "cpu")
    if batch_norm == "estimate":
        one_full_pass(module, data, SETTINGS["statistics_images"])
    chosen = fixed_subset(len(data.train), SETTINGS["train_images"])
    train = data.train.images[chosen], data.train.labels[chosen]
    found = []
    for images, labels in (train, (data.test.images, data.test.labels)):
        with torch.no_grad():
            logits = module.eval()(normalised(images, data.facts).double())
        found.append(float(F.cross_entropy(logits, labels)))
        found.append(100 * float((logits.argmax(1) == labels).double().mean()))
    return found


def one_full_pass(module, data, count):
    """One training-mode pass of all images as one batch, with momentum 1."""
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.momentum = 1.0
    chosen = fixed_subset(len(data.train), count)
    with torch.no_grad():
        module.train()(normalised(data.train.images[chosen], data.facts).double())


@pytest.mark.parametrize("batch_norm", ["estimate", "interpolate"])
def test_each_point_is_the_network_that_is_built_by_hand(networks, tmp_path, batch_norm):
    metrics, frame, _ = measured(networks, tmp_path, batch_norm=batch_norm)
    assert list(frame.columns) == ["first", "second", "point", "alpha", *barrier.MEASURED]
    assert len(frame) == 3 * 5
    for _, row in frame.iloc[::4].iterrows():
        expected = by_hand(
            networks[int(row["first"])], networks[int(row["second"])], row["alpha"], batch_norm
        )
        assert list(row[list(barrier.MEASURED)]) == pytest.approx(expected, rel=1e-3)
    barriers = []
    for _, path in frame.groupby(["first", "second"]):
        ends = path["test_loss"].iloc[[0, -1]].to_numpy()
        line = ends[0] + (ends[1] - ends[0]) * path["alpha"].to_numpy()
        barriers.append(max(path["test_loss"].to_numpy() - line))
    assert metrics["loss_barrier_mean"] == pytest.approx(np.mean(barriers))
    assert metrics["loss_barrier_std"] == pytest.approx(np.std(barriers, ddof=1))
    assert metrics["undefined_pairs"] == 0


# What it says, and of what


@pytest.mark.parametrize(
    ("wanted", "pairs"),
    [("all", [(0, 1), (0, 2), (1, 2)]), (2, [(0, 1), (1, 2)]), (9, [(0, 1), (0, 2), (1, 2)])],
)
def test_so_many_pairs_are_taken_as_are_wanted(networks, tmp_path, wanted, pairs):
    _, frame, _ = measured(networks, tmp_path, pairs=wanted, points=3)
    assert list(dict.fromkeys(zip(frame["first"], frame["second"], strict=True))) == pairs


def test_one_pair_has_no_deviation_and_the_order_of_the_seeds_is_their_own(networks, tmp_path):
    metrics, frame, _ = measured([networks[1], networks[0]], tmp_path, points=3)
    assert set(frame["first"]) == {0}
    assert not any(name.endswith("_std") for name in metrics)


def test_a_network_that_diverged_has_no_barrier_and_spoils_no_other(networks, tmp_path):
    module = trained_like(cell(3), 3)
    with torch.no_grad():
        module.get_parameter("classifier.weight").fill_(float("nan"))
    broken = left(module, cell(3), tmp_path / "broken")
    whole, _, _ = measured(networks[:2], tmp_path / "whole")
    metrics, _, remarks = measured([*networks[:2], broken], tmp_path / "out")
    assert metrics["undefined_pairs"] == 2
    assert metrics["loss_barrier_mean"] == whole["loss_barrier_mean"]
    assert any("2 of 3 pairs have no barrier" in remark for remark in remarks)
    assert all(np.isfinite(value) for value in metrics.values())


def test_ends_that_new_statistics_change_and_ends_at_chance_are_named(networks, tmp_path):
    first = Input("train", cell(0), networks[0].folder, {"test_accuracy": 97.0})
    _, _, remarks = measured([first, networks[1]], tmp_path, points=3)
    assert any("seed 0 from 97.0 to" in remark for remark in remarks)
    assert any(remark.startswith("At chance level: seed 0") for remark in remarks)


def test_interpolated_statistics_are_warned_of_before_anything_starts():
    only = [f"{stage}=false" for stage in ("prune", "finetune", "hessian", "cka", "importance")]
    plan = make_plan(load_study("quickstart", [*only, "barrier.batch_norm=interpolate"]))
    assert any(f.startswith("barrier interpolates the statistics") for f in plan.findings)
    names = {node.name for node in plan.nodes.values() if node.stage == "barrier"}
    assert "vgg19_rf-digits-k3/barrier" in names


def test_alignment_is_an_axis():
    only = [f"{stage}=false" for stage in ("prune", "finetune", "hessian", "cka", "importance")]
    plan = make_plan(
        load_study("quickstart", [*only, "barrier={}", "axes.barrier.align=[none, weights]"])
    )
    names = {node.name for node in plan.nodes.values() if node.stage == "barrier"}
    assert {f"vgg19_rf-digits-k3/barrier-align={align}" for align in ("none", "weights")} < names
