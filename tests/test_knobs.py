"""Knobs: what each changes and leaves alone in any network, and how a study turns them."""

from __future__ import annotations

import pytest
import torch
from tiny_study import TINY_SWEEP

from rfray.cli import main
from rfray.commands.plan_report import plan_json
from rfray.errors import UserError
from rfray.models.geometry import geometry, live_taps
from rfray.models.knobs import KNOBS, chosen_convolutions, turned
from rfray.models.matching import misses, nearest_strength
from rfray.models.module import build
from rfray.models.operations import MaxPool
from rfray.models.registry import architecture
from rfray.plan import make_plan
from rfray.study.sweep_file import load_study

SIZE = 32
ARCHS = ("vgg19_rf", "resnet50", "torchvision:resnet18", "torchvision:squeezenet1_1",
         "torchvision:mobilenet_v2")  # fmt: skip
BASES = {
    arch: architecture(arch)(kernel_size=1, width=1 if ":" in arch else 0.03, classes=10)
    for arch in ARCHS
}
UNTURNED = {"pool": 1, "stride": 1, "dilation": 1, "dilated_pool": 0}
CLASSIC = ["axes.arch=[vgg19_rf]", "axes.kernel_size=null", "axes.width=[0.0625]"]


@pytest.fixture
def plan_of(tiny_sweep):
    return lambda *overrides: make_plan(load_study(str(tiny_sweep), [*CLASSIC, *overrides]))


def unturned(name, base):
    own = base.convolutions[0].operation.kernel_size
    return UNTURNED.get(name, own)


def stronger(name, base):
    """Some strengths that all the networks here can stand, each stronger than the one before."""
    first = unturned(name, base)
    return (first + 2, first + 4) if name == "convolution" else (first + 1, first + 2)


def weights(network):
    return {name: tuple(one.shape) for name, one in build(network, 0).state_dict().items()}


# What a knob changes and what it leaves alone


@pytest.mark.parametrize("arch", ARCHS)
@pytest.mark.parametrize("name", KNOBS)
def test_there_is_a_strength_that_changes_nothing(name, arch):
    base = BASES[arch]
    assert turned(name, base, unturned(name, base)).layers == base.layers


@pytest.mark.parametrize("arch", ARCHS)
@pytest.mark.parametrize("name", KNOBS)
def test_the_field_grows_with_the_strength(name, arch):
    base = BASES[arch]
    networks = [base, *(turned(name, base, one) for one in stronger(name, base))]
    size = 96  # at which no map collapses
    fields = [geometry(network, size).receptive_field for network in networks]
    assert fields == sorted(set(fields))


@pytest.mark.parametrize("arch", ARCHS)
@pytest.mark.parametrize("name", ["pool", "stride", "dilation", "dilated_pool"])
def test_all_but_the_convolutions_kernel_leave_the_parameters_alone(name, arch):
    base = BASES[arch]
    network = turned(name, base, stronger(name, base)[0])
    assert geometry(network, 96).parameters == geometry(base, 96).parameters


@pytest.mark.parametrize("size", [32, 45])
@pytest.mark.parametrize("arch", ARCHS)
@pytest.mark.parametrize("name", ["dilation", "convolution", "dilated_pool"])
def test_knobs_without_a_stride_leave_the_maps_alone(name, arch, size):
    base = BASES[arch]
    for strength in stronger(name, base):
        shapes = {
            one.name: one.shape for one in geometry(turned(name, base, strength), size).layers
        }
        assert all(shapes[one.name] == one.shape for one in geometry(base, size).layers)


@pytest.mark.parametrize("arch", ["vgg19_rf", "resnet50"])
@pytest.mark.parametrize("kernel_size", [2, 3, 5])
def test_the_pool_is_the_one_that_the_networks_have(arch, kernel_size):
    pooled = architecture(arch)(kernel_size=kernel_size, width=0.03, classes=10)
    assert turned("pool", BASES[arch], kernel_size).layers == pooled.layers


@pytest.mark.parametrize("name", KNOBS)
@pytest.mark.parametrize("arch", ["vgg19_rf", "torchvision:squeezenet1_1"])
def test_the_module_has_the_maps_of_the_description(name, arch):
    base = BASES[arch]
    network = turned(name, base, stronger(name, base)[0])
    module = build(network, 0).eval()
    seen = {}
    for layer in network:
        module.get_submodule(layer.name).register_forward_hook(
            lambda _, __, output, name=layer.name: seen.update({name: tuple(output.shape[1:])})
        )
    with torch.no_grad():
        module(torch.randn(1, 3, 64, 64))
    for layer in geometry(network, 64).layers:
        if layer.shape.height > 1 and layer.name in seen:
            assert seen[layer.name] == layer.shape


def test_the_other_weights_of_a_network_from_outside_are_drawn_as_they_were():
    base = BASES["torchvision:resnet18"]
    before, after = (build(one, 3).state_dict() for one in (base, turned("convolution", base, 11)))
    assert after["conv1.weight"].shape == (64, 3, 11, 11)
    assert all(torch.equal(after[n], one) for n, one in before.items() if n != "conv1.weight")


def test_a_dilated_pool_is_the_largest_of_nine_values():
    maps = torch.randn(2, 3, 7, 9)
    pooled = MaxPool(3, stride=1, padding=4, dilation=4).module()(maps)
    padded = torch.nn.functional.pad(maps, (4, 4, 4, 4), value=-torch.inf)
    slow = torch.stack(
        [padded[:, :, y : y + 7, x : x + 9] for y in (0, 4, 8) for x in (0, 4, 8)]
    ).amax(dim=0)
    assert torch.equal(pooled, slow)


def test_dead_taps_of_a_dilated_network_are_those_that_never_get_a_gradient():
    network = turned("dilation", architecture("vgg19_rf")(1, 0.03, 10), 4)
    module = build(network, 0).double()
    reached = {layer.name: 0.0 for layer in network.convolutions}
    module(torch.rand(4, 3, SIZE, SIZE, dtype=torch.double)).square().sum().backward()
    for name in reached:
        gradient = module.get_submodule(name).weight.grad.abs().sum(dim=(0, 1))
        down, across = live_taps(network, SIZE)[name]
        dead = [[not (one and other) for other in across] for one in down]
        assert not gradient[torch.tensor(dead)].any()


# Which layers are dilated


def test_by_default_all_convolutions_behind_the_first_are_dilated_but_one_by_one_ones():
    chosen = {layer.name for layer in chosen_convolutions(BASES["resnet50"], ())}
    assert len(chosen) == 16  # the 3×3 one of each bottleneck
    assert all(name.endswith("_conv2") for name in chosen)


@pytest.mark.parametrize(
    ("patterns", "count"),
    [
        (["stage4"], 10),
        (["stage3_block1_conv2"], 1),
        (["*_conv2"], 16),
        (["stage4", "*_conv2"], 23),
    ],
)
def test_layers_are_chosen_by_name_by_part_or_by_pattern(patterns, count):
    assert len(chosen_convolutions(BASES["resnet50"], patterns)) == count


def test_a_part_of_a_network_from_outside_is_named_as_its_modules_are():
    names = [one.name for one in chosen_convolutions(BASES["torchvision:resnet18"], ["layer4.1"])]
    assert names == ["layer4.1.conv1", "layer4.1.conv2"]


@pytest.mark.parametrize(
    ("name", "strength", "words"),
    [
        ("pool", 0, "must be at least 1"),
        ("stride", 0, "must be at least 1"),
        ("dilation", 0, "must be at least 1"),
        ("convolution", 4, "keeps its map size at 1, 3, 5"),
        ("twist", 1, "no knob is called 'twist'"),
    ],
)
def test_a_strength_out_of_range_is_refused(name, strength, words):
    with pytest.raises(UserError, match=words):
        turned(name, BASES["vgg19_rf"], strength)


# Receptive fields that are asked for


@pytest.mark.parametrize("arch", ["vgg19_rf", "torchvision:resnet18"])
@pytest.mark.parametrize("name", KNOBS)
def test_the_nearest_strength_is_what_trying_all_of_them_finds(name, arch):
    base = BASES[arch]
    strengths = KNOBS[name].strengths(base, 16)
    networks = {one: turned(name, base, one) for one in strengths}

    def field(strength):
        try:
            return geometry(networks[strength], 16).receptive_field
        except UserError:
            return float("inf")

    fields = {strength: field(strength) for strength in strengths}
    for wanted in (1, 100, 181, 300, 359, 450, 600, 870, 5000):
        slow = min(strengths, key=lambda one: abs(fields[one] - wanted))
        assert nearest_strength(networks.__getitem__, strengths, 16, wanted) == slow


def test_near_is_within_a_quarter():
    assert not misses(300, 400)
    assert misses(299, 400)


# Studies


def test_a_kernel_size_and_the_field_that_it_makes_are_one_network(plan_of):
    asked, told = plan_of("axes.receptive_field=[181, 359]"), plan_of("axes.kernel_size=[2, 3]")
    assert set(asked.nodes) == set(told.nodes)
    assert {one.name for one in asked.cells} == {one.name for one in told.cells}


def test_what_a_study_does_not_turn_its_runs_do_not_say(plan_of):
    (node, *_) = plan_of("axes.kernel_size=[2]").nodes.values()
    assert not {"knob", "strength", "map_size"} & set(node.params)


def test_runs_say_how_far_a_knob_is_turned_and_what_map_it_leaves(plan_of):
    plan = plan_of("axes.knob=[pool, dilation]", "axes.receptive_field=[359]", "axes.seed=[0]")
    told = {
        node.name: [node.params[one] for one in ("kernel_size", "knob", "strength", "map_size")]
        for node in plan.nodes.values()
        if node.stage == "train"
    }
    assert told == {
        "vgg19_rf-digits-k3-seed0/train": [3, "pool", 3, 2],
        "vgg19_rf-digits-dilation2-seed0/train": [1, "dilation", 2, 4],
    }


def test_a_network_that_several_knobs_come_to_is_trained_once(plan_of):
    plan = plan_of("axes.knob=[stride, dilation]", "axes.receptive_field=[181]", "axes.seed=[0]")
    assert [cell.name for cell in plan.cells] == ["vgg19_rf-digits-k1-seed0"]
    assert any(
        "stride at 181, dilation at 181 are the same network" in one for one in plan.findings
    )


def test_a_knob_that_comes_nowhere_near_is_told(plan_of):
    plan = plan_of("axes.knob=[dilated_pool]", "axes.receptive_field=[359]", "axes.seed=[0]")
    (told,) = plan_json(plan, (), {}, ())["turned"]
    assert (told["receptive_field"], told["comes_near"]) == (242, False)
    assert any(
        "asked for a receptive field of 359, the nearest that" in one for one in plan.findings
    )


def test_the_plan_tells_the_field_over_the_image_and_the_layers_beyond_it(plan_of):
    (cell,) = plan_json(plan_of("axes.kernel_size=[2]", "axes.seed=[0]"), (), {}, ())["cells"]
    assert cell["field_over_image"] == 181 / 32
    assert cell["layers_beyond_image"][0] == "block3_conv2"  # 28 pixels before it, 36 behind it


def test_other_layers_make_another_key(plan_of):
    dilated = ("axes.knob=[dilation]", "axes.strength=[2]")
    assert not set(plan_of(*dilated).nodes) & set(plan_of(*dilated, LAST).nodes)


LAST = "knobs.dilation.layers=[block4]"


@pytest.mark.parametrize(
    ("layers", "words"),
    [
        ("[blok4]", r"'blok4' matches no convolution \(did you mean 'block4'\?\)"),
        ("[stage4]", "'stage4' matches no convolution of vgg19_rf"),
    ],
)
def test_a_pattern_that_names_nothing_is_refused(plan_of, layers, words):
    archs = "axes.arch=[vgg19_rf, resnet50]"
    turn = ("axes.knob=[dilation]", "axes.strength=[2]", f"knobs.dilation.layers={layers}")
    with pytest.raises(UserError, match=words):
        plan_of(archs, *turn)


TURNED = """\
zip:
  - {knob: pool, receptive_field: 350}
  - {knob: stride, receptive_field: 181}
  - {knob: dilation, receptive_field: 181}
  - {knob: dilation, receptive_field: 350}
  - {knob: convolution, receptive_field: 190}
  - {knob: dilated_pool, receptive_field: 190}
"""


def test_every_stage_runs_with_every_knob_and_all_of_it_is_analysed(tmp_path):
    sweep = tmp_path / "tiny.yaml"
    sweep.write_text(TINY_SWEEP.replace("  kernel_size: [5]\n", "") + TURNED)
    small = ["prune.rates=[0.5]", "train.images_per_epoch=32", "cka.images=8", "hessian.n=1"]
    place = ["--storage", str(tmp_path / "store")]
    assert exit_code("sweep", "--in-process", str(sweep), *place, *small) == 0
    report = ["analyze", "analysis/knobs.yaml", "--study", "tiny", "--out", str(tmp_path / "out")]
    assert exit_code(*report, *place) == 0
    table = (tmp_path / "out" / "tables" / "knobs.md").read_text()
    assert table.count("this study") == 6
    assert "missing" not in table
    assert "knob dilation, last map 4" in table
    assert (tmp_path / "out" / "figures" / "knobs-vgg19_rf-digits.png").is_file()


def exit_code(*words):
    with pytest.raises(SystemExit) as left:
        main([*words])
    return left.value.code
