"""A module and the description that is read from it are the same network."""

from __future__ import annotations

import copy
import importlib.util
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from linear_copy import pixels_reached as pixels_reached_along
from linear_copy import taps_that_matter
from torch import nn
from torchvision import models
from torchvision.ops import SqueezeExcitation

from rfray.errors import UserError
from rfray.models.geometry import geometry, live_taps
from rfray.models.linear_backward import LINEAR_BACKWARD
from rfray.models.module import build
from rfray.models.network import Network, Origin
from rfray.models.operations import (
    Add,
    BatchNorm,
    ChannelChunk,
    ChannelShuffle,
    ChannelSlice,
    Convolution,
    Dropout,
    Flatten,
    GlobalAveragePool,
    Linear,
    MaxPool,
    Relu,
    Rescale,
    Tanh,
    VectorBatchNorm,
)
from rfray.models.outside import outside_network
from rfray.models.registry import architecture
from rfray.models.traced import read

TORCHVISION = {
    # by name, the receptive field at the last convolution
    "resnet18": 435,
    "resnet50": 427,
    "vgg11_bn": 134,
    "vgg16": 196,
    "densenet121": 2071,
    "googlenet": 379,
    "mobilenet_v2": 491,
    "squeezenet1_1": 207,
    "shufflenet_v2_x1_0": 527,
    "efficientnet_b0": 851,
    "regnet_y_400mf": 575,
    "convnext_tiny": 1688,
}


def description(name, classes=1000):
    return outside_network(f"torchvision:{name}", 1, 1.0, classes)


def network_of(module):
    """A description that starts as the module is."""
    return Network(read(module, "test"), Origin("", module.state_dict))


def assert_same(own, read_, images):
    """Equal outputs in eval and in train mode, where both draw the same numbers."""
    for training in (False, True):
        outputs = []
        for module in (own.train(training), read_.train(training)):
            torch.manual_seed(1)
            outputs.append(module(images))
        largest = float(outputs[0].detach().abs().max())
        torch.testing.assert_close(*outputs, rtol=1e-4, atol=1e-5 * largest)


# A VGG draws its 130 million weights for seconds, and vgg11_bn has all that vgg16 has.
VGG16_LONG = [
    pytest.param(name, marks=pytest.mark.long) if name == "vgg16" else name for name in TORCHVISION
]


@pytest.mark.parametrize("name", VGG16_LONG)
def test_the_description_computes_what_torchvisions_module_does_with_parameters_of_its_names(name):
    aux = {"aux_logits": False, "init_weights": True} if name == "googlenet" else {}
    torch.manual_seed(3)
    own = models.get_model(name, weights=None, num_classes=10, **aux)
    described = build(description(name, 10), 3)
    # But for factors a channel.
    names = {one.replace("layer_scale.weight", "layer_scale") for one in described.state_dict()}
    assert names == set(own.state_dict())
    for image_size in (64, 96):
        with torch.no_grad():
            assert_same(own, described, torch.randn(2, 3, image_size, image_size))


@pytest.mark.parametrize("name", TORCHVISION)
def test_the_counts_are_those_that_torchvision_publishes(name):
    published = models.get_model_weights(name).DEFAULT.meta
    shape = geometry(description(name), 224)
    assert shape.parameters == published["num_params"]
    assert shape.multiplications / 1e9 == pytest.approx(published["_ops"], rel=0.01)


@pytest.mark.parametrize(("name", "field"), TORCHVISION.items())
def test_the_receptive_fields_are_known(name, field):
    assert geometry(description(name), 224).receptive_field == field


def assert_fields_are_what_a_linear_copy_reaches(name, image_size, axis):
    """Of every unit of every layer, as much of its field as lies in the image."""
    network = description(name)
    shape = geometry(network, image_size)
    pixels = torch.arange(image_size)[:, None]
    reached = pixels_reached_along(network, axis, image_size)
    for layer in (shape.layer(layer.name) for layer in network.trunk):
        window, units = layer.windows[axis], torch.arange(layer.shape.along(axis))
        offsets = units * window.jump
        within = (window.first + offsets <= pixels) & (pixels <= window.last + offsets)
        # A stride may end before the last pixel: then no unit sees it.
        seen = reached[layer.name].any(dim=1, keepdim=True)
        assert torch.equal(reached[layer.name], within & seen), layer.name


DEEP = ("densenet121", "efficientnet_b0", "regnet_y_400mf", "convnext_tiny")
THE_DEEP_ONES_LONG = [
    pytest.param(name, marks=pytest.mark.long) if name in DEEP else name for name in TORCHVISION
]


@pytest.mark.parametrize("axis", [0, pytest.param(1, marks=pytest.mark.long)])
@pytest.mark.parametrize("name", THE_DEEP_ONES_LONG)
def test_receptive_fields_are_what_a_linear_copy_reaches_in_a_small_image(name, axis):
    assert_fields_are_what_a_linear_copy_reaches(name, 97, axis)


@pytest.mark.parametrize("name", THE_DEEP_ONES_LONG)
def test_receptive_fields_are_what_a_linear_copy_reaches_in_an_image_that_holds_them(name):
    assert_fields_are_what_a_linear_copy_reaches(name, TORCHVISION[name] + 65, 0)


@pytest.mark.parametrize("image_size", [32, 64, 97])
@pytest.mark.parametrize("name", TORCHVISION)
def test_live_taps_of_torchvisions_networks_are_those_that_matter(name, image_size):
    network = description(name)
    found = live_taps(network, image_size)
    for axis in (0, 1):
        mattering = taps_that_matter(network, axis, image_size)
        assert {layer: taps[axis] for layer, taps in found.items()} == mattering


def test_the_docs_table_of_networks_is_what_its_script_makes():
    path = Path(__file__).parents[1] / "docs" / "network_table.py"
    spec = importlib.util.spec_from_file_location("network_table", path)
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    written = path.with_name("networks.md").read_text().splitlines()
    for size in (32, 64):
        assert set(script.own_lines(size)) <= set(written)
    assert set(script.torchvision_lines(["squeezenet1_1"], 224)) <= set(written)
    assert set(script.TORCHVISION) == set(TORCHVISION)


def pixels_reached(network, layer, axis, unit, image_size):
    """Columns (rows) of the image with a gradient from a column (row) of a map.

    Independent of the arithmetic: a linearised copy whose weights are positive.
    """
    module = build(network, 0, LINEAR_BACKWARD).double().eval()
    for parameter in module.parameters():
        nn.init.constant_(parameter, 1.0 / max(1, parameter[0].numel()))
    maps = []
    module.get_submodule(layer).register_forward_hook(lambda _m, _i, output: maps.append(output))
    image = torch.ones(1, 3, image_size, image_size, dtype=torch.float64, requires_grad=True)
    module(image)
    taken = maps[0].movedim(2 + axis, 0)[unit].sum()
    (gradient,) = torch.autograd.grad(taken, image)
    return gradient.abs().movedim(2 + axis, 0).flatten(1).sum(1).nonzero().flatten().tolist()


class Branches(nn.Module):
    """Small, and with what makes receptive fields hard."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 5, stride=2, padding=2)
        self.pool = nn.MaxPool2d(3, 2, ceil_mode=True)
        self.wide = nn.Conv2d(4, 4, (1, 7), padding=(0, 3))
        self.deep = nn.Sequential(
            nn.Conv2d(4, 4, 3, padding=2, dilation=2, groups=2), nn.ReLU(), nn.AvgPool2d(3, 1, 1)
        )
        self.last = nn.Conv2d(12, 4, 3, stride=2, padding=1)
        self.head = nn.Linear(4, 2)

    def forward(self, x):
        x = self.pool(F.relu(self.stem(x)))
        x = torch.cat([self.wide(x), self.deep(x), x], 1)
        return self.head(self.last(x).mean([2, 3]))


@pytest.mark.parametrize("axis", [0, 1])
def test_receptive_fields_are_what_a_gradient_reaches_layer_by_layer(axis):
    network = network_of(Branches())
    image_size = 121
    for layer in geometry(network, image_size).layers[:-2]:
        window = layer.windows[axis]
        unit = layer.shape.along(axis) // 2
        first = window.first + unit * window.jump
        found = pixels_reached(network, layer.name, axis, unit, image_size)
        assert found == list(range(first, first + window.size)), layer.name


@pytest.mark.parametrize("name", ["squeezenet1_1", "shufflenet_v2_x0_5"])
def test_the_receptive_field_of_a_whole_network_is_what_a_gradient_reaches(name):
    network = description(name, 2)
    image_size = 640
    last = geometry(network, image_size).last_convolution
    unit = last.shape.height // 2
    reached = pixels_reached(network, last.name, 0, unit, image_size)
    first = last.window.first + unit * last.window.jump
    assert reached == list(range(first, first + last.window.size))


@pytest.mark.parametrize("image_size", [9, 14, 23])
def test_live_taps_are_those_that_ever_get_a_gradient(image_size):
    network = network_of(Branches())
    module = build(network, 0, LINEAR_BACKWARD).double().eval()
    for _ in range(3):
        images = torch.randn(4, 3, image_size, image_size, dtype=torch.float64)
        module(images).square().sum().backward()
    for name, (down, across) in live_taps(network, image_size).items():
        touched = module.get_parameter(f"{name}.weight").grad.abs().sum(dim=(0, 1)) > 0
        assert torch.equal(touched, torch.tensor(down)[:, None] & torch.tensor(across)), name


class AsAModule(nn.Module):
    """A description written as an ordinary module would be, by hand: children and a forward."""

    def __init__(self, network):
        super().__init__()
        self.parts = network.layers
        for layer in network:
            if not isinstance(layer.operation, Add):
                self.add_module(layer.name, layer.operation.module())

    def forward(self, x):
        maps = {"input": x}
        for layer in self.parts:
            read_ = [maps[name] for name in layer.inputs]
            if isinstance(layer.operation, Add):
                maps[layer.name] = read_[0] + read_[1]
            else:
                maps[layer.name] = getattr(self, layer.name)(*read_)
        return maps[layer.name]


@pytest.mark.parametrize("arch", ["vgg19_rf", "resnet50"])
@pytest.mark.parametrize("kernel_size", [2, 5])
def test_rfrays_own_networks_come_back_from_ordinary_modules(arch, kernel_size):
    own = architecture(arch)(kernel_size, 0.0625, 10)
    back = read(AsAModule(own), "test")
    places = {layer.name: place for place, layer in enumerate(own)} | {"input": -1}
    numbers = {layer.name: place for place, layer in enumerate(back)} | {"input": -1}
    assert [layer.operation for layer in back] == [layer.operation for layer in own]
    for ours, theirs in zip(own, back, strict=True):
        assert [places[name] for name in ours.inputs] == [numbers[name] for name in theirs.inputs]


def classifier(*parts, forward=None):
    """A module of numbered parts; by default they run one after the other."""
    module = nn.Sequential(*parts)
    if forward is None:
        return module

    class Custom(nn.Module):
        def __init__(self):
            super().__init__()
            self.parts = module

    Custom.forward = forward
    return Custom()


CONV, HEAD = nn.Conv2d(3, 4, 3), nn.Linear(4, 2)


def operations(module):
    return [layer.operation for layer in read(module, "test")]


def test_functions_and_methods_are_read_as_modules_are():
    def forward(self, x):
        x = F.max_pool2d(torch.tanh(self.parts[0](x)), 3, stride=2).relu()
        x = F.dropout(x, 0.3, training=self.training)
        x = F.adaptive_avg_pool2d(x, 1)
        return self.parts[1](x.view(x.size(0), -1))

    assert operations(classifier(CONV, HEAD, forward=forward)) == [
        Convolution(3, 4, padding=0, bias=True), Tanh(), MaxPool(3, stride=2), Relu(),
        Dropout(0.3), GlobalAveragePool(), Linear(4, 2),
    ]  # fmt: skip


def test_a_hand_written_channel_shuffle_is_known():
    found = operations(models.shufflenet_v2_x0_5())
    assert ChannelShuffle(2) in found
    assert ChannelChunk(0, 2) in found


def test_whoever_reads_a_map_after_it_was_changed_in_place_reads_the_change():
    def forward(self, x):
        kept = self.parts[0](x)
        F.relu(kept, inplace=True)
        kept += kept
        return self.parts[1](kept.mean((2, 3)))

    module = classifier(nn.Conv2d(3, 4, 3), nn.Linear(4, 2), forward=forward)
    assert Relu() in operations(module)
    assert_same(module, build(network_of(module), 0), torch.randn(2, 3, 9, 9))


def test_what_the_output_does_not_need_is_left_out():
    def forward(self, x):
        x = self.parts[0](x)
        torch.fft.fft2(x)
        return self.parts[1](x.mean((2, 3)))

    assert len(operations(classifier(CONV, HEAD, forward=forward))) == 3


def test_squeeze_and_excitation_is_read():
    module = nn.Sequential(
        nn.Conv2d(3, 8, 3), SqueezeExcitation(8, 2), nn.Conv2d(8, 4, 3), nn.AdaptiveAvgPool2d(1),
        nn.Flatten(), HEAD,
    )  # fmt: skip
    network = network_of(module)
    assert geometry(network, 20).receptive_field == 5
    assert network.last_pool.name == "3"
    assert_same(module, build(network, 0), torch.randn(2, 3, 20, 20))


def test_arithmetic_with_numbers_is_read():
    def forward(self, x):
        x = 2 - self.parts[0](x * 2 - 1) / 4
        x += 0.5
        x = torch.add(torch.mul(-x, 3), 1)
        return self.parts[1]((1.5 * x).mean((2, 3)))

    module = classifier(nn.Conv2d(3, 4, 3), nn.Linear(4, 2), forward=forward)
    network = network_of(module)
    assert [Rescale(2.0), Rescale(offset=-1.0)] == operations(module)[:2]
    assert geometry(network, 9).receptive_field == 3
    assert_same(module, build(network, 0), torch.randn(2, 3, 9, 9))


def test_channels_that_are_cut_into_unequal_parts_are_read():
    def forward(self, x):
        a, b = torch.split(self.parts[0](x), [2, 4], dim=1)
        c, d, e = self.parts[1](b).split(2, 1)
        return self.parts[2](torch.cat([a, c, d, e, b[:, 1:3]], 1).mean((2, 3)))

    parts = nn.Conv2d(3, 6, 3), nn.Conv2d(4, 5, 3, padding=1), nn.Linear(9, 2)
    module = classifier(*parts, forward=forward)
    assert [one for one in operations(module) if isinstance(one, ChannelSlice)] == [
        ChannelSlice(0, 2), ChannelSlice(2, 6),
        ChannelSlice(0, 2), ChannelSlice(2, 4), ChannelSlice(4, 6), ChannelSlice(1, 3),
    ]  # fmt: skip
    assert_same(module, build(network_of(module), 0), torch.randn(2, 3, 9, 9))


def test_batch_norm_of_a_vector_is_read():
    parts = (nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.BatchNorm1d(4), HEAD)
    module = nn.Sequential(*parts)
    network = network_of(module)
    assert network.batch_norms[0].operation == VectorBatchNorm(4)
    assert_same(module, build(network, 0), torch.randn(3, 3, 9, 9))


def test_modules_may_be_called_as_the_built_modules_own_attributes():
    class Named(nn.Module):
        def __init__(self):
            super().__init__()
            self.network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())
            self.advance = nn.Conv2d(4, 4, 3)
            self.head = nn.Linear(4, 2)

        def forward(self, x):
            return self.head(self.advance(self.network(x)).mean((2, 3)))

    module = Named()
    own = build(network_of(module), 0)
    assert set(own.state_dict()) == set(module.state_dict())
    assert own.get_submodule("network.0").weight.shape == (4, 3, 3, 3)
    assert_same(module, own, torch.randn(2, 3, 9, 9))
    assert_same(module, copy.deepcopy(own), torch.randn(2, 3, 9, 9))


def test_a_flattened_map_wants_its_image_size():
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4 * 6 * 6, 2))
    network = network_of(module)
    assert network.last_pool.operation == Flatten()
    assert geometry(network, 8).layer("2").multiplications == 288
    with pytest.raises(UserError, match="layer '2' reads 144 numbers, but is given 196"):
        geometry(network, 9)


def test_norms_keep_their_settings():
    norm = nn.BatchNorm2d(4, eps=1e-3, momentum=0.01)
    found = operations(nn.Sequential(CONV, norm, nn.AdaptiveAvgPool2d(1), nn.Flatten(), HEAD))
    assert found[1] == BatchNorm(4, eps=1e-3, momentum=0.01)


def on_data(self, x):
    x = self.parts[0](x)
    return self.parts[1](x.mean((2, 3))) if x.sum() > 0 else x.mean((2, 3))


def twice(self, x):
    x = self.parts[0](x)
    return self.parts[1](self.parts[0](x[:, :3]).mean((2, 3)))


def every_second(self, x):
    return self.parts[1](self.parts[0](x)[:, ::2].mean((2, 3)))


def uneven_split(self, x):
    return self.parts[1](torch.split(self.parts[0](x), 3, 2)[0].mean((2, 3)))


UNREADABLE = [
    (classifier(CONV, HEAD, forward=on_data), "what it computes depends on its data"),
    (models.vit_b_16(), r"'encoder.layers.encoder_layer_0.self_attention' \(MultiheadAttention\)"),
    (nn.Sequential(CONV, nn.InstanceNorm2d(4), nn.Flatten(), HEAD), r"'1' \(InstanceNorm2d\)"),
    (nn.Sequential(nn.Conv2d(3, 4, 3, padding_mode="reflect"), nn.Flatten(), HEAD), "'reflect'"),
    (nn.Sequential(CONV, nn.BatchNorm2d(4, affine=False), nn.Flatten(), HEAD), "no parameters"),
    (nn.Sequential(CONV, nn.MaxPool2d(2)), "a map, not a vector"),
    (nn.Sequential(nn.Flatten(), nn.Linear(12, 2)), "no convolution"),
    (nn.Sequential(CONV, HEAD), "reads the width of a map"),
    (classifier(CONV, HEAD, forward=twice), r"'parts.0' \(Conv2d\) is used twice, but each"),
    (classifier(CONV, HEAD, forward=every_second), "this indexing"),
    (classifier(CONV, HEAD, forward=uneven_split), "does not cut channels"),
    (nn.Sequential(CONV, nn.BatchNorm1d(4), nn.Flatten(), HEAD), "does not read a vector"),
    (classifier(CONV, forward=lambda self, x: (self.parts[0](x), x)), "gives a tuple"),
    (classifier(CONV, forward=lambda self, x: 1 / self.parts[0](x)), "is not by a number"),
    (
        classifier(CONV, CONV, HEAD, forward=lambda self, x: self.nothing(x)),
        "AttributeError",
    ),
    (nn.Sequential(nn.Conv2d(3, 4, 2, padding="same"), nn.Flatten(), HEAD), "pads one side more"),
    (nn.Sequential(CONV, nn.GroupNorm(2, 4, affine=False), nn.Flatten(), HEAD), "no parameters"),
    (nn.Sequential(CONV, nn.LayerNorm((4, 2, 2)), nn.Flatten(), HEAD), "not over channels"),
    (
        nn.Sequential(CONV, nn.AvgPool2d(2, divisor_override=3), nn.Flatten(), HEAD),
        "has a divisor_override",
    ),
    (
        nn.Sequential(CONV, nn.MaxPool2d(2, return_indices=True), nn.Flatten(), HEAD),
        "returns indices as well",
    ),
    (nn.Sequential(CONV, nn.Flatten(2), HEAD), "does not make vectors of maps"),
]  # fmt: skip


@pytest.mark.parametrize(("module", "words"), UNREADABLE, ids=[words for _, words in UNREADABLE])
def test_what_cannot_be_read_is_told_in_one_line(module, words):
    with pytest.raises(UserError, match=words) as told:
        read(module, "my_nets.py:net")
    assert "\n" not in str(told.value)
    assert str(told.value).startswith(("my_nets.py:net: ", __file__))


def test_weights_that_are_used_twice_are_refused():
    def forward(self, x):
        x = self.parts[0](self.parts[0](x))
        return self.parts[1](x.mean((2, 3)))

    with pytest.raises(UserError, match=r"'parts.0' \(Conv2d\) is used twice"):
        read(classifier(nn.Conv2d(3, 3, 3), nn.Linear(3, 2), forward=forward), "test")
