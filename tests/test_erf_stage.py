"""The erf stage: effective receptive fields of networks, on real images."""

from __future__ import annotations

import csv
import math

import numpy as np
import pytest
import torch
from torch import nn

from rfray.cell import Cell
from rfray.cli import main
from rfray.data.device import normalised, resident
from rfray.data.subset import fixed_subset
from rfray.errors import UserError
from rfray.models.geometry import geometry
from rfray.models.linear_backward import LINEAR_BACKWARD
from rfray.models.module import NO_STAND_INS, build
from rfray.models.network import Network
from rfray.models.operations import BatchNorm, Convolution
from rfray.models.registry import architecture
from rfray.numerics.effective_field import radius, share_outside
from rfray.plan import make_plan
from rfray.stages import erf
from rfray.stages.stage import Input, StageContext
from rfray.storage import storage_at
from rfray.study.sweep_file import load_study
from rfray.tracking import Ledger
from rfray.training.effective_field import squared_gradients
from rfray.training.weights import initial_module, save_module

IMAGES = 5
CELL = Cell(dataset="digits", arch="vgg19_rf", kernel_size=2, seed=0, width=0.0625)
GATED = """
from torch import nn
from torchvision.ops import SqueezeExcitation

def net(classes):
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), SqueezeExcitation(8, 4),
        nn.Conv2d(8, 8, 3, padding=1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, classes),
    )
"""


STUDY = """
name: tiny
axes: {dataset: [digits], arch: [vgg19_rf], kernel_size: [2], seed: [0], width: [0.0625]}
train: {epochs: 1, batch_size: 32, images_per_epoch: 64, gradient_clip: 1.0}
erf: {images: 4, most_layers: 3}
"""


def nobody(_done):
    """Told how far it is."""


def trained(folder, cell=CELL, dead=None):
    """A training run whose network is a fresh one; the weights of layer `dead` are zero."""
    module = initial_module(cell, "cpu")
    if dead is not None:
        nn.init.zeros_(module.get_submodule(dead).weight)
    save_module(module, folder / "model.safetensors")
    return Input(stage="train", cell=cell, folder=folder, metrics={})


def measure(tmp_path, cell=CELL, dead=None, **changes):
    """Run the stage: each metric's values by step, the lines of erf.csv, its arrays, remarks."""
    reported: dict[str, dict[int, float]] = {}
    remarks: list[str] = []

    def report(step, metrics):
        for name, value in metrics.items():
            reported.setdefault(name, {})[step] = value

    source, workspace = tmp_path / "train", tmp_path / "erf"
    for folder in (source, workspace):
        folder.mkdir(exist_ok=True)
    erf.run(
        StageContext(
            parameters=erf.ErfParameters(**{"images": IMAGES, **changes}),
            variant={"at": "trained"},
            cells=(cell,),
            inputs=(trained(source, cell, dead),),
            workspace=workspace,
            checkpoint=tmp_path,
            device="cpu",
            report=report,
            remark=remarks.append,
        )
    )
    with (workspace / "erf.csv").open() as file, np.load(workspace / "erf.npz") as arrays:
        return reported, list(csv.DictReader(file)), dict(arrays), remarks


def chosen_images(dtype):
    data = resident("digits", "cpu")
    chosen = fixed_subset(len(data.test), IMAGES)
    return normalised(data.test.images[chosen], data.facts).to(dtype)


def slow_squares(cell, layer):
    """Image by image: a fresh graph each, plain autograd, in float64."""
    module, maps = initial_module(cell, "cpu").double().eval(), []
    module.get_submodule(layer).register_forward_hook(lambda _m, _i, output: maps.append(output[0]))
    total = torch.zeros(32, 32, dtype=torch.float64)
    for image in chosen_images(torch.float64):
        pixels = image[None].clone().requires_grad_()
        module(pixels)
        units = maps.pop()
        units[:, units.shape[1] // 2, units.shape[2] // 2].sum().backward()
        total += pixels.grad[0].square().mean(dim=0)
    return total / IMAGES


@pytest.mark.parametrize("arch", ["vgg19_rf", "resnet50"])
def test_the_maps_are_those_of_a_slow_loop_over_images_and_layers(tmp_path, arch):
    cell = CELL.model_copy(update={"arch": arch, "kernel_size": 3})
    _, lines, arrays, remarks = measure(tmp_path, cell, micro_batch=2)
    assert len(lines) == 16
    for line, squares in zip(lines, arrays["maps"], strict=True):
        expected = slow_squares(cell, line["layer"])
        np.testing.assert_allclose(squares, expected, rtol=1e-3, atol=1e-6 * float(expected.max()))
        assert float(line["erf_radius"]) == pytest.approx(radius(expected), rel=1e-4)
        assert float(line["share_outside"]) < 1e-12
    assert remarks == []


def stack(kernels):
    """A network of equal weights: convolutions of one channel, (size, dilation) each."""
    network = Network()
    for number, (size, dilation) in enumerate(kernels):
        inputs = 1 if number else 3
        layer = Convolution(inputs, 1, size, padding=0, dilation=dilation)
        network = network.then(f"conv{number}", layer)
    module = build(network, 0).double()
    for weight in module.parameters():
        nn.init.ones_(weight)
    return network, module


def test_a_stack_of_equal_weights_has_the_squared_binomial_layer_by_layer():
    network, module = stack([(2, 1)] * 8)
    names = [layer.name for layer in network]
    found = squared_gradients(module, names, torch.randn(3, 3, 32, 32).double(), 2, nobody)
    for depth, name in enumerate(names, start=1):
        taps = torch.tensor([math.comb(depth, i) ** 2 for i in range(depth + 1)]).double()
        squares = found[name].mean
        kept = squares[squares.sum(dim=1) > 0][:, squares.sum(dim=0) > 0]
        torch.testing.assert_close(kept, taps[:, None] * taps)
        assert radius(squares) == pytest.approx(math.sqrt(depth**2 / (2 * (2 * depth - 1))))


def test_a_dilated_one_has_its_own():
    """Two taps, d pixels apart, n times: the squared binomial, d times as wide."""
    _, module = stack([(2, 4)] * 5)
    squares = squared_gradients(module, ["conv4"], torch.randn(1, 3, 40, 40).double(), 1, nobody)
    assert radius(squares["conv4"].mean) == pytest.approx(4 * math.sqrt(5**2 / (2 * 9)))
    assert len(squares["conv4"].mean.nonzero()) == 6 * 6


@pytest.mark.parametrize("arch", ["vgg19_rf", "resnet50"])
def test_a_map_that_the_next_layer_writes_over_has_its_own_gradient(arch):
    network = architecture(arch)(3, 0.03125, 2)
    module = build(network, 0).double().eval()
    norm = next(layer.name for layer in network if isinstance(layer.operation, BatchNorm))
    images = torch.randn(4, 3, 32, 32).double()
    convolutions = [layer.name for layer in network.convolutions]
    # With a later layer the forward pass goes on, and the ReLU after the norm is computed.
    found = squared_gradients(module, [norm, convolutions[-1]], images, 4, nobody)[norm]
    alone = squared_gradients(module, [norm], images, 4, nobody)[norm]
    torch.testing.assert_close(found.mean, alone.mean, rtol=0, atol=0)


@pytest.mark.parametrize("arch", ["vgg19_rf", "resnet50"])
def test_gradients_lie_within_the_theoretical_field_and_reach_its_rim(arch):
    network = architecture(arch)(2, 0.03125, 2)
    image_size = 64
    layers = [layer for layer in geometry(network, image_size).layers if "conv" in layer.name][::4]
    images = torch.randn(1, 3, image_size, image_size).double()
    names = [layer.name for layer in layers]
    for stand_ins in (NO_STAND_INS, LINEAR_BACKWARD):
        module = build(network, 0, stand_ins).double().eval()
        found = squared_gradients(module, names, images, 1, nobody)
        for layer in layers:
            fields = [
                window.pixels(size // 2, image_size)
                for window, size in zip(layer.windows, layer.shape[1:], strict=True)
            ]
            squares = found[layer.name].mean
            assert share_outside(squares, *fields) == 0, layer.name
    # The last pass blocks no path, so that the whole field is reached.
    for axis, field in enumerate(fields):
        assert squares.sum(dim=1 - axis).nonzero().flatten().tolist() == list(field)


def test_each_layer_is_reported_at_its_place_and_the_last_one_by_itself(tmp_path):
    reported, lines, arrays, remarks = measure(tmp_path)
    places = [layer.name for layer in CELL.network.weight_layers]
    assert [int(line["step"]) for line in lines] == [places.index(line["layer"]) for line in lines]
    assert lines[-1]["layer"] == CELL.geometry.last_convolution.name
    for name in ("erf_radius", "erf_area_95", "erf_share"):
        values = {int(line["step"]): float(line[name]) for line in lines}
        assert reported[name] == pytest.approx(values)
        assert reported[f"{name}_last"] == {0: pytest.approx(float(lines[-1][name]))}
    for line, (top, bottom), (left, right) in zip(
        lines, arrays["rows"], arrays["columns"], strict=True
    ):
        pixels = (bottom - top) * (right - left)
        assert int(line["field_area"]) == pixels <= 32 * 32
        assert float(line["erf_share"]) == pytest.approx(float(line["erf_area_95"]) / pixels)
    assert arrays["maps"].shape == (len(lines), 32, 32)
    assert (tmp_path / "erf" / "erf.png").is_file()
    assert reported["wall_seconds"][0] > 0
    assert remarks == []


def test_some_layers_are_chosen_by_pattern_and_the_last_one_is_always_there(tmp_path):
    _, lines, _, _ = measure(tmp_path, layers=["block1_*", "block2_conv1"])
    names = ["block1_conv1", "block1_conv2", "block2_conv1", CELL.geometry.last_convolution.name]
    assert [line["layer"] for line in lines] == names


@pytest.mark.parametrize(
    ("most", "places"), [(1, [15]), (2, [0, 15]), (4, [0, 5, 10, 15]), (99, list(range(16)))]
)
def test_of_many_layers_some_are_spread_over_the_depth(tmp_path, most, places):
    reported, _, _, _ = measure(tmp_path, most_layers=most)
    assert list(reported["erf_radius"]) == places


def test_a_layer_without_a_gradient_is_named_and_spoils_no_other(tmp_path):
    reported, lines, _, remarks = measure(tmp_path, dead="block3_conv2")
    unknown = [line["layer"] for line in lines if not line["erf_radius"]]
    assert unknown[0] == "block3_conv2"
    assert "block3_conv1" not in unknown
    assert sorted(reported["erf_radius"]) == list(range(len(lines) - len(unknown)))
    assert remarks[0].endswith(f"one that is not a number: {', '.join(unknown)}.")


def test_a_gate_that_lets_the_gradient_leave_the_field_is_told(tmp_path, monkeypatch):
    monkeypatch.setenv("RFRAY_NETWORKS", str(tmp_path))
    (tmp_path / "gated.py").write_text(GATED)
    cell = Cell(dataset="digits", arch="gated.py:net", kernel_size=1, seed=0)
    _, lines, _, remarks = measure(tmp_path, cell)
    assert [line["layer"] for line in lines] == ["0", "2"]  # the gate's own have no place
    assert [float(line["share_outside"]) > 1e-9 for line in lines] == [False, True]
    assert remarks[0].startswith("In 1 of 2 layers the gradient leaves the theoretical field")
    assert remarks[0].endswith("of its mass, at 2.")


@pytest.mark.parametrize(
    ("name", "early", "leaving"),
    [("shufflenet_v2_x0_5", "stage2.0.*", False), ("efficientnet_b0", "features.1.*", True)],
)
def test_networks_from_outside_are_measured(tmp_path, name, early, leaving):
    cell = Cell(dataset="digits", arch=f"torchvision:{name}", kernel_size=1, seed=0)
    _, lines, _, remarks = measure(tmp_path, cell, images=2, layers=[early])
    assert len(lines) > 2
    assert all(line["erf_radius"] for line in lines)
    assert any("leaves the theoretical field" in sentence for sentence in remarks) == leaving


def test_a_study_holds_it_at_both_moments_and_its_report_has_a_table_and_a_figure(
    tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.yaml").write_text(STUDY)
    for words in (["sweep", "--in-process", "tiny.yaml"], ["analyze", "--out", "out"]):
        with pytest.raises(SystemExit) as left:
            main(words)
        assert left.value.code == 0
    ledger = Ledger(storage_at(None, None).tracking_uri)
    runs = {run.name: run for run in ledger.runs("tiny")}
    stages = ("train", "erf-init", "erf-trained")
    assert set(runs) == {f"vgg19_rf-digits-k2-seed0/{stage}" for stage in stages}
    for name in ("erf-init", "erf-trained"):
        run = runs[f"vgg19_rf-digits-k2-seed0/{name}"]
        assert run.params["at"] == name.removeprefix("erf-")
        assert {"erf_radius", "erf_area_95", "erf_share", "erf_radius_last"} <= set(run.metrics)
        for artifact in ("erf.csv", "erf.npz", "erf.png"):
            assert ledger.artifact(run, artifact).is_file()
    written = tmp_path / "out"
    assert "Radius, trained (px)" in (written / "tables" / "erf.md").read_text()
    assert (written / "figures" / "erf-vgg19_rf-digits.png").is_file()


def test_a_mean_that_rests_on_few_images_is_told(tmp_path):
    line = erf.Measured(3, "conv", 8, 9, 81, 2.0, 40, 0.5, 0.0, effective_images=2.34)
    (sentence,) = erf.doubts([line], 256)
    assert sentence.endswith("few of the 256 images: on about 2.3 at conv.")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("erf.images=365", "erf.images is 365, but digits has 364 test images"),
        (
            "erf.layers=[blok5_*]",
            r"\(blok5_\*\) matches no convolution of vgg19_rf, .* block1_conv1",
        ),
    ],
)
def test_what_cannot_be_measured_is_refused_before_anything_starts(change, words):
    study = load_study("quickstart", ["axes.arch=[vgg19_rf]", "erf={}", change])
    with pytest.raises(UserError, match=words):
        make_plan(study)


def test_it_costs_less_than_the_hessian_at_the_papers_settings():
    for arch in ("vgg19_rf", "resnet50"):
        cell = Cell(dataset="cifar10", arch=arch, kernel_size=2, seed=0)
        from rfray.stages import hessian

        dear = hessian.work(hessian.HessianParameters(), cell)
        assert erf.work(erf.ErfParameters(), cell) < dear / 100
