from __future__ import annotations

import math

import ckatorch
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from matrices import generator

import rfray.numerics.kernel_alignment as module
from rfray.numerics.errors import NumericsError
from rfray.numerics.kernel_alignment import (
    GramSum,
    alignment,
    block_passes,
    equal_gram_weight,
    undefined_layers,
)


def draw(*shape, seed=0, dtype=torch.float32):
    return torch.randn(*shape, generator=generator(seed), dtype=dtype)


def textbook(first, second):
    """Linear CKA by HSIC (Kornblith 2019, equations 1 to 3), every matrix written out in float64.

    HSIC(K, L) = tr(KHLH) / (N - 1)², CKA = HSIC(K, L) / √(HSIC(K, K) HSIC(L, L)).
    """
    x, y = first.flatten(1).double(), second.flatten(1).double()
    images = len(x)
    h = torch.eye(images, dtype=torch.float64) - 1 / images

    def hsic(k, l):  # noqa: E741 (the paper's letter)
        return torch.trace(k @ h @ l @ h) / (images - 1) ** 2

    k, l = x @ x.T, y @ y.T  # noqa: E741
    return float(hsic(k, l) / (hsic(k, k) * hsic(l, l)).sqrt())


def network(seed, images=24):
    """Features of three layers, convolutional and flat, with a mean and a hidden common cause."""
    common = draw(images, 6, seed=99)
    maps = (common @ draw(6, 5 * 3 * 3, seed=seed) + 10).view(images, 5, 3, 3)
    return [maps, maps.relu().mean(dim=(2, 3)), draw(images, 7, seed=seed + 1)]


def row(features, blocks=2):
    gram = GramSum(len(features), features.device, features.dtype)
    for block in block_passes(len(features), blocks):
        gram.add(features[block.images], block)
    return gram.normalised()


def rows(layers, blocks=2):
    return torch.stack([row(features, blocks) for features in layers])


def test_it_is_the_textbook_formula_for_every_pair_of_layers():
    first, second = network(1), network(5)[:2]
    expected = [[textbook(a, b) for b in second] for a in first]
    torch.testing.assert_close(
        alignment(rows(first), rows(second)), torch.tensor(expected), atol=2e-6, rtol=0
    )


def test_it_is_what_ckatorch_computes_for_every_pair_of_layers():
    first, second = network(1), network(5)
    expected = [
        [float(ckatorch.cka_base(a.flatten(1), b.flatten(1), method="hsic")) for b in second]
        for a in first
    ]
    torch.testing.assert_close(
        alignment(rows(first), rows(second)), torch.tensor(expected), atol=2e-6, rtol=0
    )


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("numbers", [20, 20 * 7, 20 * 50, 1 << 20])
def test_pieces_change_nothing_but_rounding(monkeypatch, layout, numbers):
    features = draw(20, 3, 7, 7)
    whole = row(features)
    monkeypatch.setattr(module, "_CHUNK_NUMBERS", numbers)
    pieces = row(features.contiguous(memory_format=layout))
    torch.testing.assert_close(pieces, whole, atol=1e-6, rtol=0)


def test_features_may_come_in_any_number_of_calls():
    features = draw(20, 3, 8, 7)
    gram = GramSum(20, features.device)
    for strip in features.split(3, dim=2):
        gram.add(strip)
    torch.testing.assert_close(gram.normalised(), row(features), atol=1e-6, rtol=0)


def test_a_sum_ends_with_its_normalisation():
    gram = GramSum(20, torch.device("cpu"))
    gram.add(draw(20, 3, 4, 4))
    gram.normalised()
    for use in (gram.normalised, lambda: gram.add(draw(20, 3, 4, 4))):
        with pytest.raises(NumericsError, match="normalised"):
            use()


@settings(deadline=None, max_examples=30, derandomize=True)
@given(images=st.integers(2, 30), parts=st.data())
def test_blocks_of_images_change_nothing_but_rounding(images, parts):
    blocks = parts.draw(st.integers(2, images))
    layers = network(3, images)
    torch.testing.assert_close(
        alignment(rows(layers, blocks), rows(layers[:2], blocks)),
        alignment(rows(layers), rows(layers[:2])),
        atol=2e-6,
        rtol=0,
    )


@pytest.mark.parametrize("blocks", [2, 3, 5, 12])
def test_passes_meet_every_pair_of_images_once(blocks):
    met = np.zeros((12, 12), dtype=int)
    for block in block_passes(12, blocks):
        assert block.images[0] == 0
        for i, j in block.products:
            met[slice(*block.spans[i]), slice(*block.spans[j])] += 1
    assert (np.tril(met) == np.tri(12)).all()
    assert len(block_passes(12, blocks)) == blocks * (blocks - 1) // 2


def test_equal_features_give_equal_bits():
    assert torch.equal(rows(network(1)), rows(network(1)))


@pytest.mark.parametrize("mean", [1e3, 1e4])
def test_a_mean_far_above_the_variation_costs_only_the_digits_that_it_takes(mean):
    """What float32 keeps of the features beside such a mean is aligned as float64 aligns it."""
    first, second = draw(30, 50) + mean, draw(30, 40, seed=1) - mean
    found = float(alignment(rows([first]), rows([second])))
    # The formula itself loses digits to such a mean, in float64 too.
    assert found == pytest.approx(textbook(first.double() - mean, second.double() + mean), abs=2e-6)


def test_more_outputs_than_inputs_are_told_by_as_many_outputs():
    maps, weight = draw(24, 5, 3, 3) + 2, draw(16, 5, 1, 1, seed=1)
    slim = equal_gram_weight(weight.flatten(1))[:, :, None, None]
    assert slim.shape == (5, 5, 1, 1)
    outputs = F.conv2d(maps, weight, bias=draw(16, seed=2))
    torch.testing.assert_close(row(F.conv2d(maps, slim)), row(outputs), atol=1e-6, rtol=0)


def test_weights_of_few_outputs_are_left_alone():
    weight = draw(4, 5)
    assert equal_gram_weight(weight) is weight


@settings(deadline=None, max_examples=40, derandomize=True)
@given(
    images=st.integers(3, 40),
    features=st.integers(1, 30),
    others=st.integers(1, 30),
    scale=st.floats(1e-3, 1e3),
    seed=st.integers(0, 999),
)
def test_orthogonal_maps_and_scales_change_nothing(images, features, others, scale, seed):
    first = draw(images, features, seed=seed, dtype=torch.float64)
    second = draw(images, others, seed=seed + 1, dtype=torch.float64)
    rotation = torch.linalg.qr(draw(features, features, seed=seed + 2, dtype=torch.float64))[0]
    before = alignment(rows([first]), rows([second]))
    after = alignment(rows([scale * first @ rotation + 3]), rows([second]))
    torch.testing.assert_close(after, before, atol=2e-6, rtol=0)
    assert -1e-6 <= float(before) <= 1 + 1e-6


@settings(deadline=None, max_examples=20, derandomize=True)
@given(seed=st.integers(0, 999), images=st.integers(2, 30))
def test_a_layer_is_aligned_with_itself_and_exchange_transposes(seed, images):
    first, second = rows(network(seed, images)), rows(network(seed + 7, images)[:2])
    torch.testing.assert_close(alignment(first, first).diagonal(), torch.ones(3))
    torch.testing.assert_close(alignment(first, second), alignment(second, first).T)


def test_between_two_networks_it_is_not_symmetric():
    first, second = ([draw(24, 4, seed=s + i) for i in range(3)] for s in (0, 10))
    matrix = alignment(rows(first), rows(second))
    assert float((matrix - matrix.T).abs().max()) > 0.05


DEAD = {
    "zeros": torch.zeros(24, 6),
    "a constant": torch.full((24, 2, 3, 3), 0.1),
    "features constant over images": draw(1, 40).expand(24, 40),
    "features whose squares are lost to float32": 1e-20 * draw(24, 40),
    "features constant up to rounding": draw(1, 40) * (1 + 1e-7 * draw(24, 40, seed=1)),
}


@pytest.mark.parametrize("name", DEAD)
def test_a_dead_layer_is_undefined_and_spoils_no_other(name):
    alive = network(1)
    with_dead = [alive[0], DEAD[name], *alive[1:]]
    grams = rows(with_dead)
    assert undefined_layers(grams) == [1]
    assert undefined_layers(rows(alive)) == []
    matrix = alignment(grams, rows(alive))
    assert matrix[1].isnan().all()
    others = [0, 2, 3]
    torch.testing.assert_close(matrix[others], alignment(rows(alive), rows(alive)))
    assert alignment(rows(alive), grams)[:, 1].isnan().all()


@pytest.mark.parametrize("name", DEAD)
def test_a_dead_layer_is_undefined_by_blocks_too(name):
    assert undefined_layers(rows([DEAD[name]], blocks=4)) == [0]


def test_one_image_cannot_be_centred():
    with pytest.raises(NumericsError, match="two images"):
        GramSum(1, torch.device("cpu"))


@pytest.mark.parametrize("blocks", [0, 1, 6])
def test_there_are_two_blocks_to_as_many_as_images(blocks):
    with pytest.raises(NumericsError, match="5 images make 2 to 5 blocks"):
        block_passes(5, blocks)


def test_features_of_another_number_of_images_are_refused():
    with pytest.raises(NumericsError, match="features must be of 5 images, not of 4"):
        GramSum(5, torch.device("cpu")).add(draw(4, 3))


def test_features_of_another_dtype_are_refused():
    with pytest.raises(NumericsError, match="float32, not torch"):
        GramSum(4, torch.device("cpu")).add(draw(4, 3, dtype=torch.float64))


@pytest.mark.parametrize("scale", [1e-12, 1e12])
def test_squares_of_squares_neither_vanish_nor_overflow(scale):
    features = draw(24, 6)
    torch.testing.assert_close(row(features * scale), row(features), atol=1e-6, rtol=0)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_feature_that_is_not_finite_is_refused(value):
    features = draw(5, 4)
    features[2, 1] = value
    with pytest.raises(NumericsError, match="not finite"):
        row(features)


def test_networks_over_different_images_cannot_be_aligned():
    with pytest.raises(NumericsError, match="different numbers of images"):
        alignment(rows(network(1, 10)), rows(network(1, 11)))


def test_identity_of_random_features_is_low_but_not_zero():
    """The biased estimate of independent features: near features/images for wide layers."""
    value = float(alignment(rows([draw(200, 20)]), rows([draw(200, 20, seed=1)])))
    assert value == pytest.approx(textbook(draw(200, 20), draw(200, 20, seed=1)), abs=1e-6)
    assert 0 < value < np.sqrt(20 / 200)


def test_half_precision_is_refused():
    with pytest.raises(NumericsError, match="bfloat16"):
        row(draw(5, 4).bfloat16())


def test_no_graph_is_held():
    assert not row(draw(5, 4).requires_grad_()).requires_grad
