"""Networks that cannot be read: trained and measured as the modules that they are."""

from __future__ import annotations

import csv
import json

import pytest
import torch
from safetensors.torch import load_file
from tiny_study import TINY_SWEEP
from torch import nn

from rfray.cell import Cell
from rfray.cli import main
from rfray.errors import UserError
from rfray.models.opaque import OpaqueNetwork, trial
from rfray.models.outside import outside_network
from rfray.plan import make_plan
from rfray.stages import finetune, hessian, prune, train
from rfray.stages.stage import Input, StageContext
from rfray.study.sweep_file import load_study
from rfray.training.weights import changed_state, initial_module, load_network_at

NETS = """\
import torch
from torch import nn
from torchvision.models import VisionTransformer


class Small(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.first = nn.Conv2d(3, 6, 3, padding=1)
        self.norm = nn.BatchNorm2d(6)
        self.second = nn.Conv2d(6, 8, 3, stride=2, padding=1)
        self.classifier = nn.Linear(8, classes)

    def forward(self, x):
        x = torch.relu(self.norm(self.first(x)))
        return self.classifier(torch.relu(self.second(x)).mean((2, 3)))


class OnData(Small):
    def forward(self, x):
        if x.isfinite().all():
            return super().forward(x)
        return x


class Tied(Small):
    def __init__(self, classes):
        super().__init__(classes)
        self.again = self.classifier

    def forward(self, x):
        return super().forward(x) if x.sum() else self.again(x)


class Whole(Small):
    def forward(self, x):
        return self.first(x) if x.sum() else x


def small(classes):
    return Small(classes)


def on_data(classes):
    return OnData(classes)


def vit(classes):
    return VisionTransformer(
        image_size=8,
        patch_size=4,
        num_layers=1,
        num_heads=2,
        hidden_dim=8,
        mlp_dim=16,
        num_classes=classes,
    )


def tied(classes):
    return Tied(classes)


def whole(classes):
    return Whole(classes)


def ten(classes):
    return OnData(7)


def unknown_size(classes):
    return nn.Sequential(nn.Flatten(), nn.LazyLinear(classes))


def perceptron(classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(192, 8), nn.ReLU(), nn.Linear(8, classes))
"""
REPORT = """\
title: Tiny
tables:
  - id: pruned
    title: Dense and pruned
    columns:
      - {name: dense, title: Dense, stage: train, metric: train_loss, trend: falls}
      - {name: pruned, title: Pruned, stage: prune, rate: 0.5, metric: test_accuracy}
      - {name: live, title: Live sparsity, stage: prune, rate: 0.5, metric: live_sparsity}
      - {name: alike, title: Alignment, stage: cka, metric: cka_diagonal_mean, optional: true}
figures:
  - {id: finetuning, kind: finetuning, title: Fine-tuned}
"""
VIT = ["axes.arch=[nets.py:vit]", "axes.dataset=['digits@8']", "axes.kernel_size=[1]"]
ON_DATA = "nets.py:on_data"
WITHOUT = {"cka", "importance"}


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    (tmp_path / "nets.py").write_text(NETS)
    (tmp_path / "tiny.yaml").write_text(TINY_SWEEP)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RFRAY_NETWORKS", str(tmp_path))
    return tmp_path


def cell(name, dataset="digits@8"):
    return Cell(dataset=dataset, arch=f"nets.py:{name}", kernel_size=1, seed=0, width=1.0)


def planned(*overrides):
    return make_plan(load_study("tiny.yaml", ["axes.width=null", *overrides]))


def exit_code(*words):
    with pytest.raises(SystemExit) as left:
        main([*words])
    return left.value.code


# The module itself


def test_weights_are_those_of_convolutions_linear_layers_and_attention():
    network = outside_network("nets.py:vit", 1, 1.0, 10)
    block = "encoder.layers.encoder_layer_0"
    assert isinstance(network, OpaqueNetwork)
    assert network.weights == (
        "conv_proj.weight",
        f"{block}.self_attention.in_proj_weight",
        f"{block}.self_attention.out_proj.weight",
        f"{block}.mlp.0.weight",
        f"{block}.mlp.3.weight",
        "heads.head.weight",
    )


def test_parameters_and_multiplications_are_those_of_the_description():
    read, opaque = cell("small"), cell("on_data")
    assert opaque.parameters == read.geometry.parameters
    assert opaque.multiplications == read.geometry.multiplications
    assert opaque.any_network.weights == read.network.weights
    assert (read.multiplications, read.parameters) == (
        read.geometry.multiplications,
        read.geometry.parameters,
    )


def test_attention_costs_what_its_products_cost():
    tokens, wide, inner, patch = 5, 8, 16, 4 * 4 * 3
    attention = 4 * wide * wide * tokens + 2 * tokens * tokens * wide
    layers = patch * wide * (tokens - 1) + 2 * wide * inner * tokens + wide * 10
    assert cell("vit").multiplications == attention + layers


def test_a_trial_leaves_the_random_state_as_it_was():
    network = outside_network("nets.py:vit", 1, 1.0, 9)
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    trial(network, 8)
    assert torch.equal(torch.rand(1), expected)


def test_it_is_initialised_by_its_seed_under_its_own_names():
    states = [
        initial_module(cell("vit").model_copy(update={"seed": seed}), "cpu").state_dict()
        for seed in (0, 0, 1)
    ]
    with torch.random.fork_rng(devices=[]):
        names = list(outside_network("nets.py:vit", 1, 1.0, 10).make().state_dict())
    first, again, other = states
    assert list(first) == names
    assert all(torch.equal(first[name], again[name]) for name in names)
    assert not torch.equal(first["conv_proj.weight"], other["conv_proj.weight"])


# The same numbers as of the description


def run(stage, place, parameters, one, inputs=(), **variant):
    """What a stage reported last, and the folder that it left."""
    found = {}
    workspace, checkpoint = place / "workspace", place / "checkpoint"
    for made in (workspace, checkpoint):
        made.mkdir(parents=True)
    stage.run(
        StageContext(
            parameters=parameters,
            variant=variant,
            cells=(one,),
            inputs=inputs,
            workspace=workspace,
            checkpoint=checkpoint,
            device="cpu",
            report=lambda step, values: found.update({f"{k}@{step}": v for k, v in values.items()}),
            remark=lambda _: None,
        )
    )
    return found, workspace


PROTOCOL = {"batch_size": 32, "images_per_epoch": 128}


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """The chain of stages on a network that is read, and on the same one behind an `if`."""
    place = tmp_path_factory.mktemp("both")
    (place / "nets.py").write_text(NETS)
    found = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RFRAY_NETWORKS", str(place))
        for name in ("small", "on_data"):
            found[name] = chain(cell(name), place / name)
    return found


def chain(one, place):
    trained = run(train.STAGE, place / "train", train.TrainParameters(epochs=2, **PROTOCOL), one)
    metrics = {"test_accuracy": trained[0]["test_accuracy@2"]}
    dense = Input("train", one, trained[1], metrics)
    pruned = run(prune.STAGE, place / "prune", prune.PruneParameters(), one, (dense,), rate=0.5)
    tuning = finetune.FinetuneParameters(epochs=1, **PROTOCOL)
    before = Input("prune", one, pruned[1], {})
    tuned = run(finetune.STAGE, place / "finetune", tuning, one, (dense, before))
    few = hessian.HessianParameters(n=3, images=32, tolerance=1e-4, probes=1, steps=4)
    curved = run(hessian.STAGE, place / "hessian", few, one, (dense,), at="trained")
    return {"train": trained, "prune": pruned, "finetune": tuned, "hessian": curved}


def weights(found, stage):
    trained = found["train"][1]
    if stage == "train":
        return load_file(trained / "model.safetensors")
    return changed_state(found[stage][1], trained)


@pytest.mark.parametrize("stage", ["train", "prune", "finetune"])
def test_trained_pruned_and_tuned_weights_are_those_of_the_description_to_the_bit(both, stage):
    read, opaque = (weights(found, stage) for found in both.values())
    assert list(read) == list(opaque)
    assert all(torch.equal(read[name], opaque[name]) for name in read)


@pytest.mark.parametrize("stage", ["train", "prune", "finetune"])
def test_reported_numbers_are_those_of_the_description_but_for_live_taps(both, stage):
    read, opaque = (both[name][stage][0] for name in both)
    timed = {name for name in read if name.startswith("epoch_seconds")}
    dead = {name for name in read if name.startswith("live_sparsity")}
    assert dead == ({name for name in read if "live" in name})
    assert {k: v for k, v in read.items() if k not in timed | dead} == {
        k: v for k, v in opaque.items() if k not in timed
    }


def test_eigenvalues_are_those_of_the_description_to_rounding(both):
    """The description's batch norms are folded into its convolutions, the module's are not."""
    read, opaque = (both[name]["hessian"][0] for name in both)
    for rank in range(3):
        value = read[f"eigenvalue@{rank}"]
        assert opaque[f"eigenvalue@{rank}"] == pytest.approx(value, rel=1e-3)


# A whole study


def test_a_whole_study_of_a_vision_transformer(folder, capsys):
    small = ["finetune.images_per_epoch=32", "prune.rates=[0.5]", "axes.width=null"]
    assert exit_code("sweep", "--in-process", "tiny.yaml", *VIT, *small) == 0
    told = [line for line in capsys.readouterr().out.splitlines() if "cannot be read" in line]
    assert told == [
        "note: nets.py:vit: cannot be read: module 'encoder.layers.encoder_layer_0.self_attention' "
        "(MultiheadAttention) is attention, in which every pixel sees every pixel. It is used as "
        "it is, without a receptive field; left out for it: importance, cka"
    ]
    (folder / "report.yaml").write_text(REPORT)
    assert exit_code("analyze", "report.yaml", "--study", "tiny") in (0, None)
    told = capsys.readouterr()
    assert "missing" not in told.out + told.err
    made = folder / "rfray-results" / "analysis" / "tiny"
    with (made / "tables" / "pruned.csv").open() as file:
        rows = {row["metric"]: row for row in csv.DictReader(file)}
    assert set(rows) == {"dense", "pruned", "live"}
    assert {row["receptive_field"] for row in rows.values()} == {""}
    assert rows["dense"]["n"] == rows["pruned"]["n"] == "2"
    assert rows["live"]["n"] == rows["live"]["n_planned"] == "0"
    assert "a receptive field is not recorded" in (made / "tables" / "trends.csv").read_text()


# The plan


def test_stages_that_need_its_layers_are_left_out_for_it_alone():
    arch = "axes.arch=[vgg19_rf, nets.py:on_data]"
    plan = planned(arch, "axes.kernel_size=[1]")
    stages = {
        name: {node.stage for node in plan.nodes.values() if node.cells[0].arch == name}
        for name in ("vgg19_rf", ON_DATA)
    }
    assert stages["vgg19_rf"] - stages[ON_DATA] == WITHOUT
    assert set(plan.left_out) == {ON_DATA}
    assert set(plan.left_out[ON_DATA]) == WITHOUT
    alone = planned("axes.arch=[vgg19_rf]", "axes.kernel_size=[1]")
    assert set(alone.nodes) <= set(plan.nodes)
    assert not alone.left_out


def test_what_is_not_known_is_told_as_such(capsys):
    words = ["plan", "tiny.yaml", *VIT, "axes.width=null"]
    assert exit_code(*words, "--json") in (0, None)
    one = json.loads(capsys.readouterr().out)["cells"][0]
    for name in ("receptive_field", "field_over_image", "map_sizes", "live_parameters"):
        assert one[name] is None
    assert one["parameters"] == cell("vit").parameters
    plan = planned(*VIT)
    assert all("receptive_field" not in node.params for node in plan.nodes.values())
    assert {one.geometry for one in plan.cells} == {None}


def test_the_code_and_the_parameters_enter_the_keys(folder):
    def keys():
        return set(planned("axes.arch=[nets.py:on_data]", "axes.kernel_size=[1]").nodes)

    before = keys()
    assert before == keys()
    (folder / "nets.py").write_text(NETS.replace("isfinite()", "isfinite().cpu()"))
    assert not before & keys()


def test_a_librarys_version_enters_the_code():
    from importlib.metadata import version

    network = outside_network("torchvision:vit_b_16", 1, 1.0, 10)
    assert network.code.endswith(f"-{version('torchvision')}")


def test_a_network_without_a_convolution_is_taken_as_it_is():
    assert cell("perceptron").any_network.reason == "has no convolution"
    assert cell("perceptron").multiplications == 192 * 8 + 8 * 10


MISTAKES = [
    (ON_DATA, ["axes.kernel_size=[2]"], "be computed or changed: the network (OnData) cannot"),
    (ON_DATA, ["axes.kernel_size=[2]"], "set kernel_size to 1 for it"),
    (ON_DATA, ["axes.kernel_size=null", "axes.receptive_field=[20]"], "be computed or changed"),
    (
        ON_DATA,
        ["axes.kernel_size=null", "axes.knob=[dilation]", "axes.strength=[2]"],
        "cannot be computed or changed",
    ),
    (ON_DATA, ["resources.train.gpus=2"], "asks for 2 GPUs, but nets.py:on_data cannot be read"),
    (ON_DATA, ["prune.among=live"], "prune.among live needs the layers of nets.py:on_data"),
    (ON_DATA, ["prune.repair=batch_norm"], "prune.repair batch_norm needs the layers of"),
    ("nets.py:vit", ["axes.dataset=[digits]"], "vision_transformer.py:"),
    ("nets.py:vit", ["axes.dataset=[digits]"], "Expected 8 but got 32! (if it needs images of"),
    ("nets.py:tied", [], "'classifier.weight' and 'again.weight' of Tied are the same tensor"),
    ("nets.py:whole", [], "gives 2×6×32×32 numbers for 2 images, not logits"),
    ("nets.py:ten", [], "the network gives 7 logits, but there are 10 classes"),
    ("nets.py:unknown_size", [], "the parameter '1.weight' of Sequential has no size before"),
]


@pytest.mark.parametrize(("name", "given", "words"), MISTAKES)
def test_what_it_cannot_be_asked_for_is_told_in_one_line(name, given, words, capsys):
    usual = ["axes.kernel_size=[1]", "axes.width=null", f"axes.arch=['{name}']"]
    assert exit_code("plan", "tiny.yaml", *usual, *given) == 2
    told = capsys.readouterr().err
    assert words in told
    assert told.count("\n") == 1


def test_a_stage_that_needs_layers_is_told_that_there_are_none(tmp_path):
    with pytest.raises(UserError, match="cannot be computed or changed"):
        load_network_at(cell("on_data"), tmp_path, "trained", "cpu")


def test_second_derivatives_of_fused_attention_are_those_of_plain_products():
    """Scaled dot-product attention against the formula, by the eigenvalues of its Hessian."""
    from rfray.numerics.hessian import hessian_operator

    class Attention(nn.Module):
        def __init__(self, fused):
            super().__init__()
            self.fused = fused
            self.weight = nn.Parameter(torch.randn(3, 4, 4, generator=generator(), dtype=kind))

        def forward(self, tokens):
            query, key, value = (tokens @ one for one in self.weight)
            if self.fused:
                mixed = nn.functional.scaled_dot_product_attention(query, key, value)
            else:
                mixed = torch.softmax(query @ key.mT / 2, dim=-1) @ value
            return mixed.mean(1)

    def generator():
        return torch.Generator().manual_seed(0)

    kind = torch.float64
    tokens = torch.randn(6, 5, 4, generator=generator(), dtype=kind)
    labels = torch.arange(6) % 4
    vectors = torch.randn(48, 2, generator=generator(), dtype=kind)
    products = [
        hessian_operator(Attention(fused).eval(), tokens, labels).apply(vectors)
        for fused in (True, False)
    ]
    torch.testing.assert_close(*products)
