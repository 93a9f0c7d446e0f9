"""The two networks are the paper's, and their geometry is what a real network does."""

from __future__ import annotations

import pytest
import torch

from rfray.errors import UserError
from rfray.models.folded import FoldedModule
from rfray.models.geometry import geometry, live_taps
from rfray.models.linear_backward import LINEAR_BACKWARD
from rfray.models.module import build
from rfray.models.network import Network
from rfray.models.operations import Add, BatchNorm, Convolution, Relu, Sigmoid
from rfray.models.registry import ARCHITECTURES, architecture
from rfray.models.stem import POOL_NAME, receptive_field_pool

KERNELS = (2, 3, 4, 5)
PUBLISHED_FIELDS = {
    "vgg19_rf": {2: 181, 3: 359, 4: 537, 5: 715},
    "resnet50": {2: 108, 3: 213, 4: 318, 5: 423},  # the paper prints 110 for k = 2
}


@pytest.mark.parametrize("arch", ARCHITECTURES)
@pytest.mark.parametrize("kernel_size", KERNELS)
def test_receptive_fields_are_those_of_the_paper(arch, kernel_size):
    shape = geometry(architecture(arch)(kernel_size, 1.0, 10), 32)
    assert shape.receptive_field == PUBLISHED_FIELDS[arch][kernel_size]


@pytest.mark.parametrize(
    ("arch", "conv_weights", "parameters"),
    [("vgg19_rf", 20_018_880, 20_040_522), ("resnet50", 23_447_232, 23_520_842)],
)
def test_full_width_networks_have_their_known_parameter_counts(arch, conv_weights, parameters):
    network = architecture(arch)(3, 1.0, 10)
    shape = geometry(network, 32)
    names = set(shape.convolution_names)
    assert sum(layer.weights for layer in shape.layers if layer.name in names) == conv_weights
    assert shape.parameters == parameters
    module = build(network, 0)
    assert sum(p.numel() for p in module.parameters()) == parameters


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_the_pool_changes_no_parameter(arch):
    counts = {geometry(architecture(arch)(k, 0.25, 10), 64).parameters for k in KERNELS}
    assert len(counts) == 1


@pytest.mark.parametrize("arch", ARCHITECTURES)
@pytest.mark.parametrize("kernel_size", KERNELS)
@pytest.mark.parametrize("image_size", [32, 64])
def test_map_sizes_are_those_of_the_module(arch, kernel_size, image_size):
    network = architecture(arch)(kernel_size, 0.03, 10)
    module = build(network, 0).eval()
    seen = {}
    for layer in network.convolutions:
        module.get_submodule(layer.name).register_forward_hook(
            lambda _m, _i, output, name=layer.name: seen.update({name: output.shape[-1]})
        )
    module(torch.zeros(1, 3, image_size, image_size))
    shape = geometry(network, image_size)
    assert seen == {name: shape.layer(name).map_size for name in seen}


@pytest.mark.parametrize(
    ("arch", "kernel_size", "image_size", "dead_percent"),
    [
        ("vgg19_rf", 2, 32, 0.0),
        ("vgg19_rf", 3, 32, 0.0),
        ("vgg19_rf", 4, 32, 78.6),
        ("vgg19_rf", 5, 32, 78.6),
        ("resnet50", 4, 32, 0.0),
        ("resnet50", 5, 32, 23.5),
        ("vgg19_rf", 5, 64, 0.0),
        ("resnet50", 5, 64, 0.0),
    ],
)
def test_dead_taps_are_those_measured(arch, kernel_size, image_size, dead_percent):
    shape = geometry(architecture(arch)(kernel_size, 1.0, 10), image_size)
    assert round(100 * shape.dead_fraction, 1) == dead_percent


@pytest.mark.parametrize("arch", ARCHITECTURES)
@pytest.mark.parametrize(("kernel_size", "image_size"), [(5, 32), (4, 32), (3, 16), (2, 12)])
def test_live_taps_are_those_that_ever_get_a_gradient(arch, kernel_size, image_size):
    """Brute force: the gradient of every weight over random images, no unit ever switched off."""
    network = architecture(arch)(kernel_size, 0.05, 10)
    module = build(network, 0, LINEAR_BACKWARD).double().eval()
    for _ in range(3):
        images = torch.randn(4, 3, image_size, image_size, dtype=torch.float64)
        module(images).square().sum().backward()
    taps = live_taps(network, image_size)
    for layer in network.convolutions:
        gradient = module.get_parameter(f"{layer.name}.weight").grad
        touched = gradient.abs().sum(dim=(0, 1)) > 0
        down, across = (torch.tensor(axis) for axis in taps[layer.name])
        assert torch.equal(touched, down[:, None] & across[None, :]), layer.name


@pytest.mark.parametrize("arch", ARCHITECTURES)
@pytest.mark.parametrize("kernel_size", KERNELS)
@pytest.mark.parametrize("margin", [37, 150])
def test_the_receptive_field_is_what_a_gradient_reaches(arch, kernel_size, margin):
    """An independent probe: a linearised copy whose weights are all 1, so that nothing cancels."""
    network = architecture(arch)(kernel_size, 0.001, 2)
    image_size = PUBLISHED_FIELDS[arch][kernel_size] + margin
    last = network.convolutions[-1].name
    shape = geometry(network, image_size)
    unit = shape.layer(last).map_size // 2
    window = shape.layer(last).window
    reached = _pixels_reached(network, last, unit, image_size)
    first = window.first + unit * window.jump
    assert reached == list(range(first, first + shape.receptive_field))


@pytest.mark.parametrize("arch", ARCHITECTURES)
@pytest.mark.parametrize(("kernel_size", "image_size"), [(2, 32), (2, 96), (3, 81), (4, 128)])
def test_a_picture_smaller_than_the_receptive_field_cuts_it(arch, kernel_size, image_size):
    network = architecture(arch)(kernel_size, 0.001, 2)
    last = network.convolutions[-1].name
    layer = geometry(network, image_size).layer(last)
    unit = layer.map_size // 2
    first = layer.window.first + unit * layer.window.jump
    inside = range(max(first, 0), min(first + layer.window.size, image_size))
    assert _pixels_reached(network, last, unit, image_size) == list(inside)


def _pixels_reached(network, layer, unit, image_size):
    """Columns of the image with a gradient from the map's units in column `unit`."""
    module = build(network, 0, LINEAR_BACKWARD).double().eval()
    for name, parameter in module.named_parameters():
        if name.endswith("conv.weight") or "_conv" in name:
            torch.nn.init.constant_(parameter, 1.0 / parameter[0].numel())
    maps = []
    module.get_submodule(layer).register_forward_hook(lambda _m, _i, output: maps.append(output))
    image = torch.ones(1, 3, image_size, image_size, dtype=torch.float64, requires_grad=True)
    module(image)
    (gradient,) = torch.autograd.grad(maps[0][..., unit].sum(), image)
    return gradient.abs().sum(dim=(0, 1, 2)).nonzero().flatten().tolist()


def test_a_map_that_collapses_is_refused_by_the_layers_name():
    with pytest.raises(UserError, match=r"the map of layer 'block1_pool' would have no pixel"):
        geometry(architecture("vgg19_rf")(5, 1.0, 10), 4)


def test_a_kernel_under_two_is_refused():
    with pytest.raises(UserError, match="at least 2"):
        receptive_field_pool(1)


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_a_kernel_size_of_one_is_the_network_without_the_pool(arch):
    without, pooled = (architecture(arch)(kernel_size, 1.0, 10) for kernel_size in (1, 2))
    assert {layer.name for layer in pooled} - {layer.name for layer in without} == {POOL_NAME}


def test_a_layer_cannot_read_what_is_not_there():
    with pytest.raises(ValueError, match="not an earlier layer"):
        Network().then("sum", Add(), "nowhere")
    with pytest.raises(ValueError, match="two layers"):
        Network().then("relu", Relu()).then("relu", Relu())


def test_equal_seeds_give_equal_weights_whatever_was_drawn_before():
    network = architecture("resnet50")(3, 0.05, 10)
    first = build(network, 7).state_dict()
    torch.rand(5)
    second = build(network, 7).state_dict()
    other = build(network, 8).state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(first["stem_conv.weight"], other["stem_conv.weight"])


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_folding_batch_norms_changes_neither_outputs_nor_gradients(arch):
    module = build(architecture(arch)(3, 0.06, 10), 0).double()
    module.train()
    module(torch.randn(8, 3, 32, 32, dtype=torch.float64))  # running statistics that matter
    module.eval()
    images = torch.randn(4, 3, 32, 32, dtype=torch.float64)
    outputs = [m(images) for m in (module, FoldedModule(module))]
    torch.testing.assert_close(outputs[0], outputs[1], rtol=1e-9, atol=1e-12)
    gradients = [
        torch.autograd.grad(out.square().sum(), list(module.parameters())) for out in outputs
    ]
    for plain, folded in zip(*gradients, strict=True):
        torch.testing.assert_close(plain, folded, rtol=1e-7, atol=1e-12)


# ReLUs that write over their input


def written_over(network):
    module = build(network, 0)
    relus = [layer.name for layer in network if isinstance(layer.operation, Relu)]
    return {name for name in relus if module.get_submodule(name).inplace}


def test_a_relu_writes_over_its_input_unless_another_layer_or_a_gradient_needs_it():
    network = (
        Network()
        .then("first", Relu(), "input")  # the images are not the network's
        .then("conv", Convolution(3, 8))
        .then("norm", BatchNorm(8))
        .then("free", Relu())
        .then("read twice", Convolution(8, 8))
        .then("shared", Relu(), "read twice")
        .then("sum", Add(), "read twice", "shared")
        .then("after sum", Relu())
        .then("gate", Sigmoid())  # its gradient is computed from its output
        .then("after gate", Relu())
    )
    assert written_over(network) == {"free", "after sum"}


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_writing_over_inputs_changes_no_bit_of_outputs_gradients_and_statistics(arch):
    networks = [build(architecture(arch)(3, 0.06, 10), 0) for _ in range(2)]
    for part in networks[1].modules():
        if isinstance(part, torch.nn.ReLU):
            part.inplace = False
    images = torch.randn(8, 3, 32, 32)
    found = []
    for module in networks:
        outputs = module.train()(images)
        outputs.square().sum().backward()
        gradients = [parameter.grad for parameter in module.parameters()]
        found.append([outputs, *gradients, *module.buffers(), module.eval()(images)])
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))
