"""What pruning removes is what `torch.nn.utils.prune` removes; what that cannot do, a slow loop."""

from __future__ import annotations

import pytest
import torch
from pruned import masks_of
from torch.nn.utils import prune as torch_prune

from rfray.cell import Cell
from rfray.models.geometry import geometry
from rfray.training.pruning import (
    all_weights,
    apply_masks,
    live_sparsity,
    live_weights,
    prunable_weights,
    sparsity,
)
from rfray.training.pruning_criteria import lamp, magnitude
from rfray.training.weights import initial_module

CELL = Cell(dataset="digits", arch="vgg19_rf", kernel_size=5, seed=3, width=0.0625)
NETWORK, IMAGE_SIZE = CELL.network, CELL.facts.image_size
NAMES = prunable_weights(NETWORK.weights, first_convolution=False, classifier=False)
RATES = [0.5, 0.73, 0.9]
SEED = 11


@pytest.fixture
def module():
    return initial_module(CELL, "cpu")


@pytest.fixture
def oracle():
    """The same network for PyTorch's own pruning, which draws in the order of memory."""
    return initial_module(CELL, "cpu").to(memory_format=torch.contiguous_format)


def parts(oracle):
    return [(oracle.get_submodule(name.removesuffix(".weight")), "weight") for name in NAMES]


def agree(masks, oracle):
    for name, (layer, _) in zip(NAMES, parts(oracle), strict=True):
        assert torch.equal(masks[name], layer.weight_mask.bool())


def kept(masks):
    return torch.cat([mask.flatten() for mask in masks.values()])


def removed(masks):
    return int((~kept(masks)).sum())


METHODS = {
    "magnitude": (torch_prune.L1Unstructured, torch_prune.l1_unstructured),
    "random": (torch_prune.RandomUnstructured, torch_prune.random_unstructured),
}


def test_the_first_convolution_and_the_classifier_are_left_out_unless_asked_for():
    names = NETWORK.weights
    assert names[1:-1] == NAMES
    assert prunable_weights(names, first_convolution=True, classifier=True) == names


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("criterion", METHODS)
def test_global_pruning_is_pytorchs(module, oracle, criterion, rate):
    with torch.random.fork_rng():
        torch.manual_seed(SEED)
        torch_prune.global_unstructured(parts(oracle), METHODS[criterion][0], amount=rate)
    agree(masks_of(module, NAMES, rate, "global", criterion, SEED), oracle)


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("criterion", METHODS)
def test_pruning_by_layer_is_pytorchs(module, oracle, criterion, rate):
    with torch.random.fork_rng():
        torch.manual_seed(SEED)
        for layer, name in parts(oracle):
            METHODS[criterion][1](layer, name, amount=rate)
    agree(masks_of(module, NAMES, rate, "layer", criterion, SEED), oracle)


def lamp_by_definition(weights):
    """w² / Σ v² over |v| ≥ |w|, term by term."""
    values = weights.flatten().tolist()
    return [
        value**2 / sum(v**2 for v in values if abs(v) >= abs(value)) if value else 0.0
        for value in values
    ]


def small_weights():
    """Of many sizes, with ties of either sign and zeros."""
    generator = torch.Generator().manual_seed(5)
    weights = torch.randn(60, generator=generator) * 10.0 ** torch.arange(-3, 3).repeat(10)
    weights[10:20] = -weights[:10]
    weights[30:34] = 0
    return weights


def test_lamp_is_its_definition():
    weights = small_weights()
    expected = torch.tensor(lamp_by_definition(weights), dtype=torch.float64)
    torch.testing.assert_close(lamp(weights), expected, rtol=1e-12, atol=0)


def test_lamp_in_figures():
    assert lamp(torch.tensor([1.0, -2.0, 2.0, 0.0])).tolist() == [1 / 9, 1 / 2, 1 / 2, 0]
    assert lamp(torch.tensor([-3.0])).tolist() == [1]
    assert lamp(torch.zeros(3)).tolist() == [0, 0, 0]


@pytest.mark.parametrize("rate", RATES)
def test_lamp_is_pytorchs_global_pruning_with_the_scores_of_the_definition(module, oracle, rate):
    few = parts(oracle)[:3]  # the loop is slow
    scores = {
        (layer, name): torch.tensor(lamp_by_definition(layer.weight), dtype=torch.float64).view(
            layer.weight.shape
        )
        for layer, name in few
    }
    torch_prune.global_unstructured(few, torch_prune.L1Unstructured, scores, amount=rate)
    masks = masks_of(module, NAMES[:3], rate, "global", "lamp")
    for (layer, _), mask in zip(few, masks.values(), strict=True):
        assert torch.equal(mask, layer.weight_mask.bool())


@pytest.mark.parametrize("rate", [*RATES, 0.99])
def test_within_a_layer_lamp_is_magnitude(module, rate):
    by_lamp = masks_of(module, NAMES, rate, "layer", "lamp")
    by_magnitude = masks_of(module, NAMES, rate, "layer", "magnitude")
    assert torch.equal(kept(by_lamp), kept(by_magnitude))
    weights = small_weights()
    assert torch.equal(lamp(weights).argsort(stable=True), magnitude(weights).argsort(stable=True))


def test_lamp_empties_no_layer_while_weights_that_are_not_the_largest_are_left(module):
    with torch.no_grad():
        for place, name in enumerate(NAMES):
            module.get_parameter(name).mul_(10.0**-place)
    counts = {
        criterion: [
            int(m.sum()) for m in masks_of(module, NAMES, 0.99, "global", criterion).values()
        ]
        for criterion in ("lamp", "magnitude")
    }
    assert min(counts["lamp"]) > 0
    assert min(counts["magnitude"]) == 0


def test_the_random_order_is_the_seeds_and_a_higher_rate_removes_more_of_the_same(module):
    masks = {rate: kept(masks_of(module, NAMES, rate, "global", "random", SEED)) for rate in RATES}
    torch.rand(7)
    again = kept(masks_of(module, NAMES, 0.73, "global", "random", SEED))
    assert torch.equal(again, masks[0.73])
    assert not torch.equal(kept(masks_of(module, NAMES, 0.73, "global", "random", 12)), again)
    assert not (masks[0.9] & ~masks[0.73]).any()
    assert not (masks[0.73] & ~masks[0.5]).any()


@pytest.mark.parametrize("kernel_size", [2, 3, 5])
@pytest.mark.parametrize("arch", ["vgg19_rf", "resnet50"])
def test_live_weights_are_as_many_as_geometry_counts_and_the_others_change_no_output(
    arch, kernel_size
):
    cell = CELL.model_copy(update={"arch": arch, "kernel_size": kernel_size})
    module = initial_module(cell, "cpu").eval()
    names = cell.network.weights
    live = live_weights(module, cell.network, IMAGE_SIZE, names)
    shape = geometry(cell.network, IMAGE_SIZE)
    assert {name: int(mask.sum()) for name, mask in live.items()} == {
        name: shape.layer(name.removesuffix(".weight")).live_weights for name in names
    }
    images = torch.randn(2, 3, IMAGE_SIZE, IMAGE_SIZE, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        before = module(images)
        for name in names:
            module.get_parameter(name)[~live[name]] = torch.nan
        from rfray.numerics.live_taps import without_dead_taps

        after = without_dead_taps(module)(images)
    torch.testing.assert_close(after, before, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("criterion", ["magnitude", "lamp"])
@pytest.mark.parametrize("rate", RATES)
def test_among_live_weights_pytorch_removes_the_same_where_dead_ones_score_above_all(
    module, oracle, rate, criterion
):
    live = live_weights(module, NETWORK, IMAGE_SIZE, NAMES)
    scores = {}
    for (layer, name), mask in zip(parts(oracle), live.values(), strict=True):
        score = torch.full(mask.shape, torch.inf, dtype=torch.float64)
        values = layer.weight.detach()[mask]
        score[mask] = lamp(values) if criterion == "lamp" else values.abs().double()
        scores[layer, name] = score
    count = round(rate * sum(int(mask.sum()) for mask in live.values()))
    torch_prune.global_unstructured(parts(oracle), torch_prune.L1Unstructured, scores, amount=count)
    agree(masks_of(module, NAMES, rate, "global", criterion, among=live), oracle)


@pytest.mark.parametrize("criterion", ["magnitude", "random", "lamp"])
@pytest.mark.parametrize("scope", ["global", "layer"])
def test_among_live_weights_dead_ones_stay_and_the_rate_is_a_share_of_the_live_ones(
    module, scope, criterion
):
    live = live_weights(module, NETWORK, IMAGE_SIZE, NAMES)
    masks = masks_of(module, NAMES, 0.9, scope, criterion, SEED, live)
    assert all(bool(masks[name][~live[name]].all()) for name in NAMES)
    counts = [int(mask.sum()) for mask in live.values()]
    wanted = [round(0.9 * n) for n in counts] if scope == "layer" else [round(0.9 * sum(counts))]
    assert removed(masks) == sum(wanted)


def test_how_the_two_sparsities_read_among_all_and_among_live(module):
    live = live_weights(module, NETWORK, IMAGE_SIZE, NAMES)
    candidates = {"all": all_weights(module, NAMES), "live": live}
    every = sum(layer.weights for layer in geometry(NETWORK, IMAGE_SIZE).layers)
    of_live = sum(layer.live_weights for layer in geometry(NETWORK, IMAGE_SIZE).layers)
    count = sum(int(mask.sum()) for mask in live.values())
    with torch.no_grad():  # as weight decay leaves them: dead weights are the smallest
        for name in NAMES:
            module.get_parameter(name)[~live[name]] *= 1e-6
    found = {}
    for among, chosen in candidates.items():
        pruned = initial_module(CELL, "cpu")
        pruned.load_state_dict(module.state_dict())
        apply_masks(pruned, masks_of(pruned, NAMES, 0.5, among=chosen))
        found[among] = sparsity(pruned, NETWORK.weights), live_sparsity(pruned, NETWORK, IMAGE_SIZE)
    assert found["live"] == (round(0.5 * count) / every, round(0.5 * count) / of_live)
    assert found["all"][0] == pytest.approx(0.5, abs=0.01)
    assert found["all"][1] == 0, "nothing but dead weights went"
