"""Forward passes by rows: the same maps as the network's own, with few rows alive at once."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from rfray.models.module import build
from rfray.models.network import INPUT, Network
from rfray.models.operations import (
    Add,
    AveragePool,
    BatchNorm,
    ChannelChunk,
    ChannelLinear,
    ChannelNorm,
    ChannelShuffle,
    Concatenate,
    Convolution,
    Dropout,
    Gelu,
    GlobalAveragePool,
    Hardswish,
    Linear,
    MaxPool,
    Relu,
    Scale,
)
from rfray.models.registry import architecture
from rfray.models.row_pass import forward_by_rows
from rfray.models.row_schedule import map_heights, peak_numbers, row_steps, tallest_strip


def odd_network():
    """Dilation, strides that leave rows unread, unequal padding, a sum of strided branches."""
    stem = (
        Network()
        .then("stem", Convolution(3, 4, kernel_size=3, padding=2, dilation=2, bias=True))
        .then("stem_relu", Relu())
        .then("pool", MaxPool(3, stride=2, padding=1))
    )
    return (
        stem.then("trunk", Convolution(4, 6, kernel_size=5, stride=3, padding=0))
        .then("trunk_norm", BatchNorm(6))
        .then("shortcut", Convolution(4, 6, kernel_size=1, stride=3, padding=0), "pool")
        .then("crop", MaxPool(2, stride=1), "shortcut")
        .then("sum", Add(), "trunk_norm", "crop")
        .then("twice", Add(), "sum", "sum")
        .then("last_pool", MaxPool(2, stride=2))
        .then("average_pool", GlobalAveragePool())
        .then("classifier", Linear(6, 3))
    )


def mixed_network():
    """Rectangular, grouped and joined, with maps that share memory and are read again."""
    stem = (
        Network()
        .then("stem", Convolution(3, 8, kernel_size=(5, 3), stride=(2, 1), padding=(2, 0)))
        .then("stem_norm", BatchNorm(8))
        .then("dropped", Dropout(0.5))
        .then("dropped_relu", Relu())
        .then("left", ChannelChunk(0, 2), "stem_norm")
        .then("left_relu", Relu())
        .then("right", ChannelChunk(1, 2), "stem_norm")
        .then("right_conv", Convolution(4, 4, (3, 1), padding=(1, 0), groups=2))
        .then("right_act", Hardswish())
        .then("joined", Concatenate(), "left_relu", "right_act", "dropped_relu", "stem_norm")
    )
    return (
        stem.then("shuffle", ChannelShuffle(4))
        .then("average", AveragePool((2, 3), stride=(2, 3)))
        .then("norm", ChannelNorm(24))
        .then("linear", ChannelLinear(24, 6))
        .then("factors", Scale(6))
        .then("gelu", Gelu())
        .then("average_pool", GlobalAveragePool())
        .then("dropout", Dropout(0.1))
        .then("classifier", Linear(6, 3))
    )


NETWORKS = {
    "odd": (odd_network(), 35),
    "mixed": (mixed_network(), 37),
    "vgg19_rf k=3 on odd maps": (architecture("vgg19_rf")(3, 0.0625, 4), 30),
    **{
        f"{arch} k={k}": (architecture(arch)(k, 0.0625, 4), 32)
        for arch in ("vgg19_rf", "resnet50")
        for k in (2, 5)
    },
}


def ready(network):
    """Random weights and batch statistics that are far from those of a new network."""
    module = build(network, 0).eval()
    generator = torch.Generator().manual_seed(1)
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.running_mean.normal_(0, 0.1, generator=generator)
            part.running_var.uniform_(0.05, 0.2, generator=generator)
    return module


def own_maps(module, images):
    """Every layer's map in a plain forward pass, by hooks."""
    maps = {}
    hooks = [
        module.get_submodule(layer.name).register_forward_hook(
            lambda _module, _inputs, output, name=layer.name: maps.update({name: output.clone()})
        )
        for layer in module.network
    ]
    module(images)
    for hook in hooks:
        hook.remove()
    return maps


def assert_same_map(found, expected):
    torch.testing.assert_close(found, expected, atol=1e-5 * float(expected.abs().max()), rtol=0)


@pytest.mark.parametrize("strip", [1, 2, 7, 16, 30])
@pytest.mark.parametrize("name", NETWORKS)
def test_every_row_of_every_map_is_seen_once_and_is_the_networks_own(name, strip):
    network, size = NETWORKS[name]
    module = ready(network)
    images = torch.randn(3, 3, size, size, generator=torch.Generator().manual_seed(2))
    untouched = images.clone()
    seen = {layer.name: [] for layer in network}
    with torch.inference_mode():
        expected = own_maps(module, images)
        logits = forward_by_rows(
            module, images, strip, lambda layer, _read, rows: seen[layer].append(rows.clone())
        )
    for layer, rows in seen.items():
        whole = torch.cat(rows, dim=2) if rows[0].dim() == 4 else torch.cat(rows)
        assert_same_map(whole, expected[layer])
    assert_same_map(logits, expected[network.output])
    assert torch.equal(images, untouched)


def test_a_whole_image_at_a_time_is_one_step_a_layer():
    network, size = NETWORKS["resnet50 k=2"]
    steps = list(row_steps(network, size, size))
    assert [step.layer for step in steps] == list(network)


def test_a_convolution_is_shown_with_the_rows_that_it_reads():
    network, size = NETWORKS["resnet50 k=2"]
    module = ready(network)
    images = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(2))

    def see(layer, read, rows):
        part = module.get_submodule(layer)
        if isinstance(part, nn.Conv2d) and part.kernel_size == (1, 1):
            torch.testing.assert_close(part(read), rows)
            met.append(layer)

    met = []
    with torch.inference_mode():
        forward_by_rows(module, images, 3, see)
    assert {layer for layer in met if "shortcut" in layer}


def test_rows_alone_hold_a_small_part_of_the_maps():
    network = architecture("resnet50")(2, 1.0, 10)
    whole, by_rows = (peak_numbers(network, 64, strip) for strip in (64, 1))
    largest_map = 256 * 63 * 63
    assert whole == 3 * largest_map  # a block's sum, and its two branches' last maps
    assert by_rows < largest_map / 2


def test_the_peak_is_that_of_the_rows_that_are_really_alive(monkeypatch):
    """Counted on the tensors of the pass itself, without the copies that joining rows makes."""
    from rfray.models import row_pass

    network, size = NETWORKS["resnet50 k=5"]
    module, images = ready(network), torch.zeros(1, 3, size, size)
    alive, peak = {}, 0

    class Counted(row_pass._Rows):
        def append(self, piece):
            super().append(piece)
            alive[id(self)] = sum(piece.numel() for piece in self._pieces)
            nonlocal peak
            peak = max(peak, sum(alive.values()) - images.numel())

        def drop(self, row):
            super().drop(row)
            alive[id(self)] = sum(piece.numel() for piece in self._pieces)

    monkeypatch.setattr(row_pass, "_Rows", Counted)
    with torch.inference_mode():
        forward_by_rows(module, images, 2, lambda *_: None)
    assert peak <= peak_numbers(network, size, 2) <= 2 * peak


def test_the_tallest_strip_is_the_one_that_just_fits():
    network, size = NETWORKS["resnet50 k=2"]
    needs = {strip: peak_numbers(network, size, strip) for strip in (32, 16, 8, 4, 2, 1)}
    for strip, need in needs.items():
        assert tallest_strip(network, size, need) == strip
    assert tallest_strip(network, size, needs[8] - 1) == 4
    assert tallest_strip(network, size, needs[1] - 1) == 1


def test_the_heights_are_those_of_the_maps():
    network, size = NETWORKS["odd"]
    module = ready(network)
    maps = own_maps(module, torch.zeros(1, 3, size, size))
    heights = map_heights(network, size)
    assert heights.pop(INPUT) == size
    assert heights == {n: m.shape[2] if m.dim() == 4 else 1 for n, m in maps.items()}


@pytest.mark.parametrize("strip", [0, 33])
def test_a_strip_is_a_part_of_the_image(strip):
    network, size = NETWORKS["resnet50 k=2"]
    with pytest.raises(ValueError, match="a strip has 1 to 32 rows"):
        list(row_steps(network, size, strip))


def test_training_mode_is_refused():
    network, size = NETWORKS["resnet50 k=2"]
    with pytest.raises(ValueError, match="training mode"):
        forward_by_rows(build(network, 0), torch.zeros(2, 3, size, size), 1, lambda *_: None)
