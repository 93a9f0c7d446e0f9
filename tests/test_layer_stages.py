"""probe and saturation: what they measure of layers, against plain passes and by hand."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from rfray.analysis import analyze, load_report
from rfray.cell import Cell
from rfray.data.device import normalised, resident
from rfray.data.subset import chosen_images
from rfray.numerics.errors import NumericsError
from rfray.plan import make_plan
from rfray.stages import probe, saturation
from rfray.stages.saturation import Saturation
from rfray.stages.stage import Input, StageContext
from rfray.study.sweep_file import load_study
from rfray.training.layer_features import each_place, place_mean, pooled_features, show_features
from rfray.training.weights import initial_module, save_module

pytestmark = pytest.mark.filterwarnings("ignore")

CELL = Cell(dataset="digits", arch="vgg19_rf", kernel_size=3, seed=0, width=0.0625)
IMAGES = 150
SHIPPED = Path(__file__).resolve().parent.parent / "analysis" / "paper.yaml"


@pytest.fixture(scope="module")
def data():
    return resident("digits", "cpu")


def trained(folder, cell=CELL, spoil=None):
    """A training run whose weights, before and after, are those of a warmed initialisation."""
    module = initial_module(cell, "cpu")
    images = chosen_images(resident("digits", "cpu").train, IMAGES).images
    for part in module.modules():
        if isinstance(part, torch.nn.BatchNorm2d):
            part.momentum = None
    with torch.no_grad():
        module.train()(normalised(images, resident("digits", "cpu").facts))
    if spoil is not None:
        spoil(module)
    for name in ("init", "model"):
        save_module(module, folder / f"{name}.safetensors")
    return Input(stage="train", cell=cell, folder=folder, metrics={}), module.eval()


def run(stage, tmp_path, source, parameters, variant=None):
    """Run one stage: each metric's values by step, the rows of its csv, its remarks."""
    reported: dict[str, dict[int, float]] = {}
    remarks: list[str] = []

    def report(step, metrics):
        for name, value in metrics.items():
            reported.setdefault(name, {})[step] = value

    stage.run(
        StageContext(
            parameters=parameters,
            variant=variant or {},
            cells=(source.cell,),
            inputs=(source,),
            workspace=tmp_path,
            checkpoint=tmp_path,
            device="cpu",
            report=report,
            remark=remarks.append,
        )
    )
    assert (tmp_path / f"{stage.STAGE.name}.png").stat().st_size > 0
    with (tmp_path / f"{stage.STAGE.name}.csv").open() as file:
        return reported, list(csv.DictReader(file)), remarks


def plain_features(module, images, facts, layer):
    """A layer's features of all images by one pass, whole."""
    seen = []
    hook = module.get_submodule(layer).register_forward_hook(lambda *those: seen.append(those[2]))
    with torch.no_grad():
        module(normalised(images, facts))
    hook.remove()
    return seen[0]


def test_features_in_batches_are_those_of_one_pass(data):
    module = initial_module(CELL, "cpu").eval()
    split = chosen_images(data.train, IMAGES)
    layers = [layer.name for layer in CELL.network.weight_layers]
    pooled = pooled_features(module, split.images, data.facts, layers)
    for layer in layers:
        whole = plain_features(module, split.images, data.facts, layer)
        torch.testing.assert_close(
            pooled[layer], place_mean(whole), rtol=1e-4, atol=1e-5, msg=layer
        )
    assert not any(module._forward_hooks for module in module.modules())


def test_each_place_is_a_point():
    maps = torch.arange(24.0).view(2, 3, 2, 2)
    points = each_place(maps)
    assert points.shape == (8, 3)
    assert points[0].tolist() == maps[0, :, 0, 0].tolist()
    assert points[7].tolist() == maps[1, :, 1, 1].tolist()
    vectors = torch.arange(6.0).view(2, 3)
    assert torch.equal(each_place(vectors), vectors)
    assert torch.equal(place_mean(maps), maps.double().mean((2, 3)))


def test_the_images_are_of_all_classes_and_all_where_there_are_fewer(data):
    assert len(chosen_images(data.train, IMAGES)) == IMAGES
    assert len(chosen_images(data.train, IMAGES).labels.unique()) == 10
    assert torch.equal(chosen_images(data.test, 10**6).images, data.test.images)


def test_hooks_are_gone_when_a_stage_fails(data):
    module = initial_module(CELL, "cpu")

    def fail(_name, _features):
        raise NumericsError("x")

    with pytest.raises(NumericsError):
        show_features(module, data.test.images[:5], data.facts, ["classifier"], fail)
    assert not any(part._forward_hooks for part in module.modules())


def test_probes_are_scikit_learns_of_the_same_features(data, tmp_path):
    source, module = trained(tmp_path)
    settings = probe.ProbeParameters(images=IMAGES, test_images=100, tolerance=1e-8)
    reported, rows, remarks = run(probe, tmp_path, source, settings)
    names = [layer.name for layer in CELL.network.weight_layers]
    assert [row["layer"] for row in rows] == names
    assert list(reported["probe_accuracy"]) == list(range(len(names)))
    assert remarks == []
    train, test = chosen_images(data.train, IMAGES), chosen_images(data.test, 100)
    for place in (0, 5, len(names) - 1):
        on_train, on_test = (
            place_mean(plain_features(module, split.images, data.facts, names[place])).numpy()
            for split in (train, test)
        )
        scaler = StandardScaler().fit(on_train)
        model = LogisticRegression(C=1 / (0.01 * IMAGES), tol=1e-10, max_iter=10_000)
        model.fit(scaler.transform(on_train), train.labels.numpy())
        score = 100 * model.score(scaler.transform(on_test), test.labels.numpy())
        assert reported["probe_accuracy"][place] == pytest.approx(score)
        assert float(rows[place]["accuracy"]) == pytest.approx(score)


def test_a_second_run_gives_the_same_numbers(tmp_path):
    source, _ = trained(tmp_path)
    settings = probe.ProbeParameters(images=IMAGES, test_images=100)
    one, two = (run(probe, tmp_path, source, settings) for _ in range(2))
    assert one[1] == two[1]
    assert one[0]["probe_accuracy"] == two[0]["probe_accuracy"]


def test_the_tail_and_the_field_stand_in_metrics_and_in_the_csv(tmp_path):
    source, _ = trained(tmp_path)
    settings = probe.ProbeParameters(images=IMAGES, test_images=100)
    reported, rows, _ = run(probe, tmp_path, source, settings)
    accuracies = list(reported["probe_accuracy"].values())
    (start,) = reported["tail_start"].values()
    assert max(accuracies[start:]) <= accuracies[start] + 1
    assert all(max(accuracies[at:]) > accuracies[at] + 1 for at in range(start))
    assert [row["in_tail"] for row in rows].index("True") == start
    (beyond,) = reported["field_exceeds_image_at"].values()
    fields = [int(row["receptive_field"]) for row in rows]
    assert fields[beyond] > 32 >= max(fields[:beyond])
    assert [row["field_exceeds_image"] for row in rows].index("True") == beyond


def test_probes_that_have_not_converged_are_named(tmp_path):
    source, _ = trained(tmp_path)
    settings = probe.ProbeParameters(images=IMAGES, test_images=100, max_iterations=2)
    _, rows, (remark,) = run(probe, tmp_path, source, settings)
    assert remark.startswith(f"{len(rows)} of {len(rows)} probes have not converged")
    assert {row["converged"] for row in rows} == {"False"}


def test_with_little_memory_layers_are_probed_in_groups_and_nothing_changes(tmp_path, monkeypatch):
    source, _ = trained(tmp_path)
    settings = probe.ProbeParameters(images=60, test_images=40)
    whole = run(probe, tmp_path, source, settings)[1]
    monkeypatch.setattr(probe, "FEATURE_BYTES", 8 * 100 * 40)
    assert run(probe, tmp_path, source, settings)[1] == whole


def test_groups_of_layers_keep_within_the_budget():
    layers = [CELL.geometry.layer(layer.name) for layer in CELL.network.weight_layers]
    groups = probe.layer_groups(layers, images=10, budget=8 * 10 * 40)
    assert [layer for group in groups for layer in group] == layers
    assert all(sum(layer.shape.channels for layer in group) <= 40 for group in groups)
    assert probe.layer_groups(layers, images=10, budget=1) == [[layer] for layer in layers]


def test_a_gate_sees_the_whole_image_and_is_passed_over():
    conv = CELL.geometry.layer(CELL.network.weight_layers[0].name)
    window = conv.windows[0]

    def layer(size, jump):
        seen = replace(window, first=0, last=size - 1, jump=jump)
        return replace(conv, windows=(seen, seen))

    layers = [layer(9, 1), layer(40, 0), layer(30, 2), layer(62, 2), layer(90, 0)]
    assert probe.exceeds_image(layers, 32) == [False, False, False, True, True]


@pytest.mark.parametrize("places", ["each", "mean"])
def test_saturation_is_that_of_the_whole_covariance(data, tmp_path, places):
    source, module = trained(tmp_path)
    settings = saturation.SaturationParameters(images=IMAGES, places=places)
    reported, rows, _ = run(saturation, tmp_path, source, settings, {"at": "init"})
    images = chosen_images(data.train, IMAGES).images
    for place, layer in enumerate(CELL.network.weight_layers):
        features = plain_features(module, images, data.facts, layer.name).double()
        if places == "mean" and features.dim() == 4:
            features = features.mean((2, 3))
        points = features.movedim(1, -1).flatten(0, -2).numpy()
        values = np.linalg.eigvalsh(np.cov(points.T, bias=True))[::-1]
        directions = int(np.argmax(values.cumsum() / values.sum() >= 0.99)) + 1
        assert int(rows[place]["directions"]) == directions
        assert reported["saturation"][place] == directions / points.shape[1]
        assert int(rows[place]["points"]) == len(points)
    mean = np.mean(list(reported["saturation"].values()))
    assert reported["saturation_mean"][0] == pytest.approx(mean)


def test_a_layer_whose_filters_are_of_low_rank_is_saturated_by_that_rank(tmp_path):
    """Three filters and their mixtures: three directions, whatever the images."""
    name = CELL.network.convolutions[2].name

    def mix(module):
        layer = module.get_submodule(name)
        with torch.no_grad():
            outputs = layer.weight.shape[0]
            mixing = torch.linalg.qr(torch.randn(outputs, 3)).Q
            basis = torch.linalg.qr(layer.weight[:3].flatten(1).T).Q.T
            layer.weight.copy_((mixing @ basis).view_as(layer.weight))

    source, _ = trained(tmp_path, spoil=mix)
    settings = saturation.SaturationParameters(images=IMAGES, variance=0.9999)
    _, rows, _ = run(saturation, tmp_path, source, settings, {"at": "trained"})
    (row,) = [row for row in rows if row["layer"] == name]
    assert int(row["directions"]) == 3


def test_layers_that_are_constant_count_as_0_and_are_named(tmp_path):
    name = CELL.network.convolutions[2].name
    source, _ = trained(
        tmp_path, spoil=lambda module: torch.nn.init.zeros_(module.get_submodule(name).weight)
    )
    settings = saturation.SaturationParameters(images=IMAGES)
    reported, rows, remarks = run(saturation, tmp_path, source, settings, {"at": "init"})
    (place,) = [int(row["place"]) for row in rows if row["layer"] == name]
    assert reported["saturation"][place] == 0
    assert remarks[0].startswith("Features are constant over images, which counts as 0: " + name)


def test_too_few_samples_are_remarked():
    found = {f"conv{n}": Saturation(64, 64, 30) for n in range(7)}
    (sentence,) = saturation.doubts({**found, "head": Saturation(10, 64, 9)})
    assert sentence.endswith("cannot reach 1: conv0, conv1, conv2, conv3, conv4 and 2 more.")


@pytest.mark.parametrize("stage", [probe, saturation])
def test_a_network_that_gives_no_numbers_is_refused_by_the_name_of_the_layer(tmp_path, stage):
    name = CELL.network.convolutions[2].name
    source, _ = trained(
        tmp_path,
        spoil=lambda module: torch.nn.init.constant_(
            module.get_submodule(name).weight, float("nan")
        ),
    )
    settings = {
        probe: probe.ProbeParameters(images=60, test_images=40),
        saturation: saturation.SaturationParameters(images=60),
    }[stage]
    with pytest.raises(NumericsError, match=f"layer '{name}': a feature is not finite"):
        run(stage, tmp_path, source, settings, {"at": "init"})


@pytest.mark.parametrize(
    "arch",
    [
        "torchvision:resnet18",
        pytest.param("torchvision:mobilenet_v3_small", marks=pytest.mark.long),
    ],
)
def test_networks_from_outside_are_measured_too(tmp_path, arch):
    cell = Cell(dataset="digits", arch=arch, kernel_size=1, seed=0)
    module = initial_module(cell, "cpu")
    for name in ("init", "model"):
        save_module(module, tmp_path / f"{name}.safetensors")
    source = Input(stage="train", cell=cell, folder=tmp_path, metrics={})
    layers = len(cell.network.weight_layers)
    settings = saturation.SaturationParameters(images=8, places="mean")
    assert len(run(saturation, tmp_path, source, settings, {"at": "init"})[1]) == layers
    settings = probe.ProbeParameters(images=12, test_images=8)
    assert len(run(probe, tmp_path, source, settings)[1]) == layers


def test_work_is_below_that_of_the_hessian_at_the_papers_settings():
    plan = make_plan(load_study("paper", ["probe={}", "saturation={}"]))
    work = {}
    for node in plan.nodes.values():
        work[node.stage] = max(work.get(node.stage, 0), node.work)
    assert work["probe"] < work["hessian"] / 50
    assert work["saturation"] < work["hessian"] / 50


def test_a_study_with_both_has_their_tables_and_figures(tiny_sweep, tmp_path):
    from test_docs import ONLY_TRAINING, states_of

    from rfray.engine.frontier import State
    from rfray.storage import storage_at
    from rfray.tracking import Ledger

    stages = ["probe={images: 40, test_images: 30}", "saturation={images: 20}"]
    plan = make_plan(load_study(str(tiny_sweep), [*ONLY_TRAINING, *stages]))
    storage = storage_at(str(tmp_path / "results"), None)
    assert states_of(plan, storage) == {State.DONE}
    ledger, out = Ledger(storage.tracking_uri), tmp_path / "out"
    found = analyze(ledger, "tiny", load_report(SHIPPED), out)
    assert found.gaps == ()
    written = {str(path.relative_to(out)) for path in found.written}
    assert {"tables/probe.csv", "tables/saturation.csv"} <= written
    assert {
        "figures/probe-vgg19_rf-digits.png",
        "figures/saturation-vgg19_rf-digits.png",
    } <= written
