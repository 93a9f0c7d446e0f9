from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from matrices import generator

import rfray.numerics.kernel_alignment as module
from rfray.numerics.errors import NumericsError
from rfray.numerics.kernel_alignment import (
    alignment,
    centred_gram,
    normalised_grams,
    undefined_layers,
)


def draw(*shape, seed=0, dtype=torch.float32):
    return torch.randn(*shape, generator=generator(seed), dtype=dtype)


def textbook(first, second):
    """Linear CKA by features (Kornblith 2019, section 3.2): ‖YᵀX‖² / (‖XᵀX‖ ‖YᵀY‖), centred."""
    x, y = (f.flatten(1).double() - f.flatten(1).double().mean(dim=0) for f in (first, second))
    return float((y.T @ x).norm() ** 2 / ((x.T @ x).norm() * (y.T @ y).norm()))


def network(seed, images=24):
    """Features of three layers, convolutional and flat, with a mean and a hidden common cause."""
    common = draw(images, 6, seed=99)
    maps = (common @ draw(6, 5 * 3 * 3, seed=seed) + 10).view(images, 5, 3, 3)
    return [maps, maps.relu().mean(dim=(2, 3)), draw(images, 7, seed=seed + 1)]


def rows(features):
    return normalised_grams([centred_gram(layer) for layer in features])


def test_it_is_the_textbook_formula_for_every_pair_of_layers():
    first, second = network(1), network(5)[:2]
    expected = [[textbook(a, b) for b in second] for a in first]
    torch.testing.assert_close(
        alignment(rows(first), rows(second)), torch.tensor(expected), atol=2e-6, rtol=0
    )


def test_a_gram_matrix_is_that_of_the_centred_features():
    features = draw(20, 3, 4, 4, dtype=torch.float64) + 5
    centred = features.flatten(1) - features.flatten(1).mean(dim=0)
    torch.testing.assert_close(centred_gram(features), centred @ centred.T)


def test_pieces_change_nothing(monkeypatch):
    features = draw(20, 3, 7, 7)
    whole = centred_gram(features)
    monkeypatch.setattr(module, "_CHUNK_NUMBERS", 20 * 10)
    torch.testing.assert_close(centred_gram(features), whole, atol=1e-4, rtol=0)


def test_a_mean_a_thousand_times_the_variation_costs_no_digits():
    features = draw(30, 50)
    shifted = (features + 1000).double()
    expected = shifted - shifted.mean(dim=0)
    torch.testing.assert_close(
        centred_gram(features + 1000), expected @ expected.T, atol=1e-4, rtol=0
    )


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


def test_one_image_cannot_be_centred():
    with pytest.raises(NumericsError, match="two images"):
        centred_gram(torch.ones(1, 4))


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_feature_that_is_not_finite_is_refused(value):
    features = draw(5, 4)
    features[2, 1] = value
    with pytest.raises(NumericsError, match="not finite"):
        centred_gram(features)


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
        centred_gram(draw(5, 4).bfloat16())


def test_a_hook_holds_no_graph():
    assert not centred_gram(draw(5, 4).requires_grad_()).requires_grad
