"""Every operation is what its torch module does: its shape, its reach, its live taps, its cost."""

from __future__ import annotations

import pytest
import torch

from rfray.errors import UserError
from rfray.models.geometry import geometry, live_taps
from rfray.models.linear_backward import LINEAR_BACKWARD
from rfray.models.module import build
from rfray.models.network import INPUT, Network
from rfray.models.operations import (
    AdaptiveAveragePool,
    Add,
    AveragePool,
    BatchNorm,
    ChannelChunk,
    ChannelDropout,
    ChannelLinear,
    ChannelNorm,
    ChannelShuffle,
    ChannelSlice,
    Concatenate,
    Convolution,
    Dropout,
    Elu,
    Flatten,
    Gelu,
    GlobalAveragePool,
    GroupNorm,
    Hardsigmoid,
    Hardswish,
    LeakyRelu,
    Linear,
    MaxPool,
    Product,
    Relu,
    Relu6,
    Rescale,
    Scale,
    Shape,
    Sigmoid,
    Silu,
    StochasticDepth,
    Tanh,
)

ONE_INPUT = [
    Convolution(8, 12),
    Convolution(8, 12, kernel_size=(1, 7), padding=(0, 3)),
    Convolution(8, 12, kernel_size=(5, 3), stride=(2, 1), padding=(0, 2), dilation=(1, 2)),
    Convolution(8, 16, groups=4, bias=True),
    Convolution(8, 8, groups=8, kernel_size=5, padding=2),
    MaxPool(3, stride=2, ceil_mode=True),
    MaxPool(2, stride=2, padding=1, ceil_mode=True),
    MaxPool((3, 2), stride=(2, 3), padding=(1, 0), dilation=(2, 1)),
    AveragePool(2, stride=2),
    AveragePool(3, stride=2, padding=1, count_include_pad=False),
    AveragePool((3, 5), stride=(3, 2), ceil_mode=True),
    AdaptiveAveragePool(),
    AdaptiveAveragePool((7, 3)),
    GlobalAveragePool(),
    Flatten(),
    BatchNorm(8, eps=1e-3),
    ChannelNorm(8),
    GroupNorm(2, 8),
    *(Relu(), Relu6(), LeakyRelu(0.2), Elu(), Silu(), Hardswish(), Gelu(), Tanh()),
    *(Sigmoid(), Hardsigmoid()),
    *(Dropout(0.2), ChannelDropout(0.2), StochasticDepth(0.1)),
    Scale(8),
    ChannelLinear(8, 6),
    ChannelChunk(1, 2),
    ChannelSlice(2, 5),
    ChannelSlice(6, 99),
    Rescale(0.5, -1.0),
    ChannelShuffle(4),
]


@pytest.mark.parametrize("operation", ONE_INPUT, ids=str)
@pytest.mark.parametrize(("height", "width"), [(14, 14), (15, 11)])
def test_the_output_has_the_shape_that_is_told(operation, height, width):
    given = operation.module().eval()(torch.randn(2, 8, height, width))
    told = operation.output([Shape(8, height, width)])
    assert tuple(given.shape[1:]) == (told if given.dim() == 4 else told[:1])


@pytest.mark.parametrize("operation", [*ONE_INPUT, Linear(9, 4), Linear(9, 4, bias=False)], ids=str)
def test_the_parameters_are_the_modules(operation):
    held = dict(operation.module().named_parameters())
    assert operation.parameters == sum(one.numel() for one in held.values())
    if operation.weights:
        assert operation.weights == held["weight"].numel()


def gradient_reach(operation, size, axis, unit):
    """Places along an axis with a gradient from one unit, all weights 1."""
    stand_in = LINEAR_BACKWARD.get(type(operation))
    module = (stand_in(operation) if stand_in else operation.module()).double().eval()
    for parameter in module.parameters():
        torch.nn.init.ones_(parameter)
    maps = torch.rand(1, 8, size, size, dtype=torch.float64, requires_grad=True)
    taken = module(maps).movedim(2 + axis, 0)[unit].sum()
    (gradient,) = torch.autograd.grad(taken, maps)
    return gradient.abs().movedim(2 + axis, 0).flatten(1).sum(1).nonzero().flatten().tolist()


WINDOWED = [one for one in ONE_INPUT if isinstance(one, Convolution | MaxPool | AveragePool)]


@pytest.mark.parametrize("operation", WINDOWED, ids=str)
@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("size", [14, 15])
def test_each_unit_reads_the_places_that_are_told(operation, axis, size):
    reach = operation.reach(axis, size)
    for unit in range(reach.units(size)):
        start = unit * reach.stride - reach.padding
        told = {start + tap * reach.dilation for tap in range(reach.taps)} & set(range(size))
        assert gradient_reach(operation, size, axis, unit) == sorted(told)


@pytest.mark.parametrize(("size", "exact"), [(14, True), (7, True), (15, False), (1, False)])
def test_an_adaptive_pool_reads_its_bins_or_is_bounded_by_the_whole_map(size, exact):
    reach = AdaptiveAveragePool(7).reach(0, size)
    assert (reach.stride > 0) == exact
    if exact:
        assert reach.units(size) == 7


def rectangular():
    """Columns and rows apart, as Inception has them, and maps that are not square."""
    return (
        Network()
        .then("stem", Convolution(3, 4, kernel_size=(3, 5), stride=(1, 2), padding=(1, 0)))
        .then("across", Convolution(4, 4, kernel_size=(1, 7), padding=(0, 3)))
        .then("down", Convolution(4, 4, kernel_size=(7, 1), padding=(3, 0)), "stem")
        .then("joined", Concatenate(), "across", "down")
        .then("pool", MaxPool((2, 3), stride=(2, 3), ceil_mode=True))
        .then("wide", Convolution(8, 8, (9, 3), padding=(4, 2), dilation=(1, 2), groups=2))
        .then("average", GlobalAveragePool())
        .then("classifier", Linear(8, 3))
    )


def gated():
    """A residual block with squeeze-and-excitation."""
    return (
        Network()
        .then("stem", Convolution(3, 8, stride=2))
        .then("norm", BatchNorm(8))
        .then("act", Silu())
        .then("depthwise", Convolution(8, 8, kernel_size=5, padding=2, groups=8))
        .then("squeeze", AdaptiveAveragePool())
        .then("fc1", Convolution(8, 2, kernel_size=1, padding=0, bias=True))
        .then("fc1_act", Silu())
        .then("fc2", Convolution(2, 8, kernel_size=1, padding=0, bias=True))
        .then("gate", Sigmoid())
        .then("excited", Product(), "gate", "depthwise")
        .then("sum", Add(), "excited", "act")
        .then("last", Convolution(8, 8))
        .then("average", GlobalAveragePool())
        .then("classifier", Linear(8, 3))
    )


@pytest.mark.parametrize("image_size", [12, 17])
@pytest.mark.parametrize("make", [rectangular, gated])
def test_live_taps_are_those_that_ever_get_a_gradient(make, image_size):
    network = make()
    module = build(network, 0, LINEAR_BACKWARD).double().eval()
    for _ in range(3):
        images = torch.randn(4, 3, image_size, image_size, dtype=torch.float64)
        module(images).square().sum().backward()
    for name, (down, across) in live_taps(network, image_size).items():
        touched = module.get_parameter(f"{name}.weight").grad.abs().sum(dim=(0, 1)) > 0
        assert torch.equal(touched, torch.tensor(down)[:, None] & torch.tensor(across)), name


def test_live_weights_are_the_live_taps_of_every_pair_of_channels():
    tall = Convolution(3, 6, kernel_size=(9, 3), padding=(4, 1), groups=3)
    network = Network().then("tall", tall).then("average", GlobalAveragePool())
    down, across = live_taps(network, 3)["tall"]
    assert (sum(down), sum(across)) == (5, 3)
    assert geometry(network, 3).layer("tall").live_weights == 6 * 5 * 3
    assert geometry(network, 3).dead_fraction == pytest.approx(4 / 9)


def test_a_gate_neither_widens_the_window_nor_enters_the_trace():
    shape = geometry(gated(), 32)
    assert shape.receptive_field == 3 + 4 * 2 + 2 * 2
    assert shape.map_sizes == (16,)
    assert shape.layer("depthwise").window.gated is False
    assert shape.layer("excited").window.gated is True
    assert shape.layer("last").window.gated is True


def test_both_axes_are_told_and_the_larger_counts():
    shape = geometry(rectangular(), 33)
    down, across = shape.layer("wide").windows
    assert (down.size, across.size) == (3 + 6 + 1 + 8 * 2, 5 + 6 * 2 + 2 * 2 + 4 * 6)
    assert shape.receptive_field == across.size
    assert shape.layer("stem").shape == (4, 33, 15)
    assert shape.layer("stem").map_size == 33


def test_a_dilated_max_pool_has_a_linear_backward_pass_with_its_window():
    pool = MaxPool(3, stride=1, padding=1, dilation=2)
    assert gradient_reach(pool, 9, 0, 4) == [3, 5, 7]


def test_a_linear_layer_that_wants_another_image_size_is_named():
    network = (
        Network()
        .then("conv", Convolution(3, 4))
        .then("flatten", Flatten())
        .then("fc", Linear(4 * 8 * 8, 2))
    )
    assert geometry(network, 8).parameters == 4 * 27 + 257 * 2
    with pytest.raises(UserError, match="layer 'fc' reads 256 numbers, but is given 1,024"):
        geometry(network, 16)


def test_maps_of_different_sizes_are_not_joined():
    network = Network().then("a", Convolution(3, 4)).then("b", Convolution(3, 4, stride=2), INPUT)
    for operation, verb in [(Add(), "adds"), (Concatenate(), "joins"), (Product(), "multiplies")]:
        with pytest.raises(UserError, match=f"layer 'c' {verb} maps of 8 and 4 pixels"):
            geometry(network.then("c", operation, "a", "b"), 8)


def test_names_with_dots_nest():
    network = Network().then("features.0.conv", Convolution(3, 4)).then("features.1", Relu())
    assert set(build(network, 0).state_dict()) == {"features.0.conv.weight"}


def test_the_places_of_a_convolutions_settings_are_a_promise_to_networks_of_users():
    by_place = Convolution(8, 16, 3, 1, 1, 1, True, 4)
    assert by_place == Convolution(8, 16, bias=True, groups=4)
    module = by_place.module()
    assert module.groups == 4
    assert module.bias is not None
