"""Channels that change places: every network computes what it did, to rounding in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from rfray.models.module import build
from rfray.models.network import INPUT, Network
from rfray.models.operations import (
    Add,
    BatchNorm,
    ChannelChunk,
    ChannelLinear,
    ChannelNorm,
    ChannelShuffle,
    Concatenate,
    Convolution,
    Flatten,
    GlobalAveragePool,
    GroupNorm,
    Linear,
    Product,
    Relu,
    Scale,
    Sigmoid,
)
from rfray.models.permutations import channel_groups, permuted_state
from rfray.models.registry import architecture
from rfray.training.alignment import aligned

SIZE = 8
CLASSES = 3


def noisy(network):
    """A module in float64 whose norms and biases tell channels apart."""
    module = build(network, 0).double().eval()
    drawn = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for tensor in module.state_dict().values():
            if tensor.dim():
                tensor.add_(
                    torch.rand(tensor.shape, generator=drawn, dtype=torch.float64), alpha=0.2
                )
    return module


def shuffled(network, image_size, seed=0):
    """The groups of a network, and its module's state with each of them in random order."""
    groups = channel_groups(network, image_size)
    drawn = np.random.default_rng(seed)
    orders = [drawn.permutation(group.size) for group in groups]
    module = noisy(network)
    return module, permuted_state(module.state_dict(), groups, orders), groups


def assert_same_function(network, image_size):
    module, state, groups = shuffled(network, image_size)
    images = torch.rand(2, 3, image_size, image_size, dtype=torch.float64)
    with torch.no_grad():
        expected = module(images)
        before = module.state_dict()
        moved = {name for name, one in state.items() if not torch.equal(one, before[name])}
        module.load_state_dict({name: one.clone() for name, one in state.items()})
        torch.testing.assert_close(module(images), expected, rtol=1e-9, atol=1e-12)
    assert moved
    return groups


@pytest.mark.parametrize("arch", ["vgg19_rf", "resnet50"])
def test_rfrays_own_networks_compute_the_same(arch):
    network = architecture(arch)(kernel_size=3, width=0.0625, classes=CLASSES)
    assert_same_function(network, 32)


@pytest.mark.parametrize(
    "name", ["resnet18", "mobilenet_v2", "squeezenet1_1", "shufflenet_v2_x0_5"]
)
def test_torchvisions_networks_compute_the_same(name):
    network = architecture(f"torchvision:{name}")(kernel_size=1, width=1, classes=CLASSES)
    assert_same_function(network, 32)


@pytest.mark.long
@pytest.mark.parametrize(
    "name",
    [
        "mobilenet_v3_small",
        "densenet121",
        "googlenet",
        "efficientnet_b0",
        "regnet_y_400mf",
        "alexnet",
    ],
)
def test_larger_ones_of_torchvision_too(name):
    network = architecture(f"torchvision:{name}")(kernel_size=1, width=1, classes=CLASSES)
    assert_same_function(network, 64)


def conv(inputs, outputs, **settings):
    return Convolution(inputs, outputs, bias=True, **settings)


def ended(network, channels):
    return network.then("pool", GlobalAveragePool()).then("classifier", Linear(channels, CLASSES))


def stem(channels=8):
    return Network().then("stem", conv(3, channels)).then("stem_relu", Relu())


def plain():
    return ended(stem().then("norm", BatchNorm(8)).then("conv", conv(8, 6)), 6)


def residual():
    net = stem().then("conv", conv(8, 8)).then("add", Add(), "conv", "stem_relu")
    return ended(net, 8)


def dense():
    net = stem().then("new", conv(8, 4)).then("join", Concatenate(), "stem_relu", "new")
    net = net.then("norm", BatchNorm(12)).then("newer", conv(12, 4))
    return ended(net.then("all", Concatenate(), "join", "newer"), 16)


def gate():
    net = stem().then("squeeze", conv(8, 8, kernel_size=1, padding=0)).then("gate", Sigmoid())
    return ended(net.then("excited", Product(), "gate", "stem_relu"), 8)


def single_channel_gate():
    net = stem().then("one", conv(8, 1, kernel_size=1, padding=0)).then("gate", Sigmoid())
    return ended(net.then("seen", Product(), "stem_relu", "gate"), 8)


def depthwise():
    net = stem().then("each", conv(8, 16, groups=8)).then("norm", BatchNorm(16))
    return ended(net.then("mixed", conv(16, 6)), 6)


def grouped():
    return ended(stem().then("parts", conv(8, 12, groups=2)).then("relu", Relu()), 12)


def flattened():
    net = stem().then("flat", Flatten()).then("hidden", Linear(8 * SIZE * SIZE, 5))
    return net.then("relu", Relu()).then("classifier", Linear(5, CLASSES))


def shuffle():
    net = stem().then("left", ChannelChunk(0, 2)).then("right", ChannelChunk(1, 2), "stem_relu")
    net = net.then("changed", conv(4, 4), "right").then("join", Concatenate(), "left", "changed")
    net = net.then("shuffle", ChannelShuffle(2)).then("front", ChannelChunk(0, 2))
    net = net.then("rest", ChannelChunk(1, 2), "shuffle").then("more", conv(4, 6), "rest")
    return ended(net.then("last", Concatenate(), "front", "more"), 10)


def norms():
    net = stem().then("group", GroupNorm(2, 8)).then("conv", conv(8, 6))
    net = net.then("channel", ChannelNorm(6)).then("scale", Scale(6))
    return ended(net.then("linear", ChannelLinear(6, 4)), 4)


def both_halves_of_a_sum():
    """A sum that ties a layer's channels to those of two others, one behind the other."""
    net = stem(4).then("other", conv(3, 4), INPUT).then("join", Concatenate(), "stem_relu", "other")
    net = net.then("conv", conv(8, 8)).then("add", Add(), "conv", "join")
    return ended(net, 8)


def doubled():
    """Channels that stand twice in one map: which is which cannot be told, so they stay."""
    net = stem().then("twice", Concatenate(), "stem_relu", "stem_relu").then("conv", conv(16, 4))
    return ended(net, 4)


def crossed():
    """A sum that ties each channel but the outer two to others of the same map: those stay."""
    net = stem().then("mixed", ChannelShuffle(2)).then("add", Add(), "mixed", "stem_relu")
    return ended(net.then("conv", conv(8, 4)), 4)


@pytest.mark.parametrize(
    ("make", "sizes"),
    [
        (plain, [8, 6]),
        (residual, [8]),
        (dense, [8, 4, 4]),
        (gate, [8]),
        (single_channel_gate, [8]),
        (depthwise, [8, 6]),
        (grouped, [4, 4, 6, 6]),
        (flattened, [8, 5]),
        (norms, [4, 4, 6, 4]),
        (both_halves_of_a_sum, [4, 4]),
        (doubled, [4]),
        (crossed, [2, 4]),
    ],
)
def test_channels_are_permuted_together_where_they_must_be(make, sizes):
    groups = assert_same_function(make(), SIZE)
    assert [group.size for group in groups] == sizes


def test_a_channel_shuffle_keeps_apart_what_is_read_apart():
    groups = assert_same_function(shuffle(), SIZE)
    assert all(group.size < 8 for group in groups)
    assert sum(group.size for group in groups) > 8


def test_logits_and_image_stay():
    module, state, _ = shuffled(plain(), SIZE)
    before = module.state_dict()
    assert torch.equal(state["classifier.bias"], before["classifier.bias"])
    for colour in range(3):
        kernels = {tuple(one.flatten().tolist()) for one in state["stem.weight"][:, colour]}
        assert kernels == {tuple(o.flatten().tolist()) for o in before["stem.weight"][:, colour]}


@pytest.mark.parametrize(
    "make", [plain, residual, dense, gate, depthwise, grouped, flattened, shuffle, norms]
)
def test_a_permuted_copy_is_brought_back_exactly(make):
    module, state, _ = shuffled(make(), SIZE)
    before = module.state_dict()
    back = aligned(module, SIZE, before, state)
    assert all(torch.equal(back[name], before[name]) for name in before)


@pytest.mark.parametrize("arch", ["vgg19_rf", "resnet50"])
def test_a_permuted_copy_of_a_deep_network_is_brought_back_exactly(arch):
    network = architecture(arch)(kernel_size=3, width=0.125, classes=10)
    module, state, _ = shuffled(network, 32)
    before = module.state_dict()
    back = aligned(module, 32, before, state)
    # A weight that only meets padding decides nothing, and goes where its channel goes.
    assert all(torch.equal(back[name], before[name]) for name in before)


def test_weights_that_only_meet_padding_do_not_decide():
    """On a 1×1 map the outer taps of a kernel are dead: they may hold anything."""
    network = ended(stem().then("conv", conv(8, 8)), 8)
    module, state, _ = shuffled(network, 1)
    first = {name: one.clone() for name, one in module.state_dict().items()}
    expected = aligned(module, 1, first, state)
    for tensors in (first, state):
        for name in ("stem.weight", "conv.weight"):
            noise = torch.randn(tensors[name].shape, dtype=torch.float64) * 100
            noise[:, :, 1, 1] = 0
            tensors[name] = tensors[name] + noise
    again = aligned(module, 1, first, state)
    assert torch.equal(again["stem.bias"], expected["stem.bias"])
    assert torch.equal(again["conv.bias"], expected["conv.bias"])
