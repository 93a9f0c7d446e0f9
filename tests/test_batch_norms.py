"""Batch norms are renewed as one pass of all images as a single batch would do it."""

from __future__ import annotations

import pytest
import torch
from pruned import masks_of
from torch import nn

from rfray.cell import Cell
from rfray.data.device import normalised, resident
from rfray.training import batch_norms
from rfray.training.batch_norms import activation_variances, renew_statistics, variance_ratio
from rfray.training.pruning import apply_masks
from rfray.training.weights import initial_module

IMAGES = 40


def cell(arch):
    return Cell(dataset="digits", arch=arch, kernel_size=5, seed=3, width=0.0625)


def images():
    data = resident("digits", "cpu")
    return normalised(data.train.images[:IMAGES], data.facts)


def pruned(arch="vgg19_rf"):
    module = initial_module(cell(arch), "cpu")
    apply_masks(module, masks_of(module, module.network.weights, 0.8))
    return module


def norms(module):
    return [part for part in module.modules() if isinstance(part, nn.BatchNorm2d)]


def renewed_by_pytorch(module, batch):
    """One training-mode pass of everything as one batch, with momentum 1."""
    for norm in norms(module):
        norm.momentum = 1.0
    with torch.no_grad():
        module.train()(batch)
    return module.eval()


@pytest.mark.parametrize("size", [7, 40, 100])
@pytest.mark.parametrize("arch", ["vgg19_rf", "resnet50"])
def test_statistics_are_those_of_one_pass_of_everything_in_float64(monkeypatch, arch, size):
    monkeypatch.setattr(batch_norms, "_BATCH", size)
    module, oracle = pruned(arch).double(), pruned(arch).double()
    renew_statistics(module, images().double())
    renewed_by_pytorch(oracle, images().double())
    for mine, theirs in zip(norms(module), norms(oracle), strict=True):
        torch.testing.assert_close(mine.running_mean, theirs.running_mean, rtol=1e-9, atol=1e-12)
        torch.testing.assert_close(mine.running_var, theirs.running_var, rtol=1e-9, atol=1e-15)
    assert not module.training


def test_in_float32_they_are_the_same_to_rounding_and_to_the_bit_when_repeated():
    first, second, oracle = pruned(), pruned(), pruned()
    renew_statistics(first, images())
    renew_statistics(second, images())
    renewed_by_pytorch(oracle, images())
    for mine, again, theirs in zip(norms(first), norms(second), norms(oracle), strict=True):
        assert torch.equal(mine.running_mean, again.running_mean)
        assert torch.equal(mine.running_var, again.running_var)
        torch.testing.assert_close(mine.running_mean, theirs.running_mean, rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(mine.running_var, theirs.running_var, rtol=1e-3, atol=1e-6)


def test_weights_and_what_was_there_before_do_not_matter_and_weights_stay():
    module, other = pruned(), pruned()
    for norm in norms(other):
        norm.running_mean.fill_(3.0)
        norm.running_var.fill_(9.0)
    weights = [parameter.clone() for parameter in module.parameters()]
    renew_statistics(module, images())
    renew_statistics(other, images())
    for mine, theirs in zip(norms(module), norms(other), strict=True):
        assert torch.equal(mine.running_mean, theirs.running_mean)
        assert torch.equal(mine.running_var, theirs.running_var)
    assert all(torch.equal(a, b) for a, b in zip(module.parameters(), weights, strict=True))


def test_a_network_whose_weights_have_shrunk_computes_again_what_it_did():
    """Known answer: a batch norm undoes any factor on what it reads (but for ε)."""
    module, shrunk = (initial_module(cell("vgg19_rf"), "cpu").double() for _ in range(2))
    for norm in (*norms(module), *norms(shrunk)):
        norm.eps = 0.0
    with torch.no_grad():
        for part in shrunk.modules():
            if isinstance(part, nn.Conv2d):
                part.weight.mul_(0.1)
                part.bias.mul_(0.1)
    batch = images().double()
    for one in (module, shrunk):
        renew_statistics(one, batch)
    with torch.no_grad():
        torch.testing.assert_close(shrunk(batch), module(batch), rtol=1e-6, atol=1e-9)


def test_the_variance_of_activations_is_that_of_whole_maps(monkeypatch):
    monkeypatch.setattr(batch_norms, "_BATCH", 7)
    module = pruned().eval()
    found = activation_variances(module, images())
    assert list(found) == [layer.name for layer in module.network.batch_norms]
    with torch.no_grad():
        for name, variance in found.items():
            place = [layer.name for layer in module.network].index(name) + 1
            maps = module.advance({"input": images()}, 0, place)[name].double()
            expected = maps.transpose(0, 1).flatten(1).var(1, correction=0).mean()
            assert variance == pytest.approx(float(expected), rel=1e-4)
    assert not any(norm._forward_hooks for norm in norms(module))


def test_pruning_takes_variance_and_new_statistics_bring_it_back():
    module = initial_module(cell("vgg19_rf"), "cpu")
    renew_statistics(module, images())
    dense = activation_variances(module, images())
    apply_masks(module, masks_of(module, module.network.weights, 0.8))
    assert variance_ratio(activation_variances(module, images()), dense) < 0.5
    renew_statistics(module, images())
    assert variance_ratio(activation_variances(module, images()), dense) == pytest.approx(
        1, abs=0.1
    )


def test_the_ratio_in_figures():
    assert variance_ratio({"a": 2.0, "b": 0.5}, {"a": 1.0, "b": 1.0}) == pytest.approx(1)
    assert variance_ratio({"a": 1.0, "b": 0.5}, {"a": 1.0, "b": 2.0}) == pytest.approx(0.5)
    assert variance_ratio({"a": 0.0, "b": 0.5}, {"a": 1.0, "b": 2.0}) == 0
    assert variance_ratio({"a": 0.1, "b": 0.5}, {"a": 0.0, "b": 2.0}) == pytest.approx(0.25)
    assert variance_ratio({"a": 0.0}, {"a": 0.0}) is None


def test_a_network_that_goes_on_from_any_layer_computes_the_same():
    module = pruned("resnet50").eval()
    count = len(module.network.layers)
    with torch.no_grad():
        expected = module(images())
        for place in range(count + 1):
            half = module.advance({"input": images()}, 0, place)
            (logits,) = module.advance(half, place, count).values()
            assert torch.equal(logits, expected)


@pytest.mark.parametrize("held", [0, 30_000, 40_000])
@pytest.mark.parametrize("arch", ["vgg19_rf", "resnet50"])
def test_how_many_maps_are_held_decides_how_often_they_are_computed_and_nothing_else(
    monkeypatch, arch, held
):
    monkeypatch.setattr(batch_norms, "_BATCH", 15)
    computed = {}
    for limit in (10**9, held):
        monkeypatch.setattr(batch_norms, "HELD_BYTES", limit)
        module = pruned(arch)
        passes = []
        module.get_submodule(module.network.layers[0].name).register_forward_hook(
            lambda *_, passes=passes: passes.append(1)
        )
        renew_statistics(module, images())
        computed[limit] = len(passes), module.state_dict()
    plenty, little = computed[10**9], computed[held]
    assert plenty[0] == 3, "each of three batches once"
    assert 3 < little[0] <= 3 * len(norms(module))
    assert (little[0] == 3 * len(norms(module))) == (held == 0)
    assert all(torch.equal(little[1][name], value) for name, value in plenty[1].items())
