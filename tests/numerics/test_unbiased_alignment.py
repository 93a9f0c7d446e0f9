"""What tells alignment from its bias: the unbiased estimate, and images that were shuffled."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from matrices import generator

from rfray.numerics.errors import NumericsError
from rfray.numerics.kernel_alignment import (
    GramSum,
    UnbiasedGramSum,
    alignment,
    block_passes,
    undefined_layers,
)
from rfray.numerics.shuffled_alignment import derangement, equal_layers_alignment, shuffle_rows

ESTIMATORS = [GramSum, UnbiasedGramSum]


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=generator(seed))


def network(seed, images=12):
    """Features of three layers with a common cause, so that networks are alike, and a mean."""
    common = draw(images, 6, seed=99)
    maps = (common @ draw(6, 5 * 3 * 3, seed=seed) + 3).view(images, 5, 3, 3)
    return [maps, maps.relu().mean(dim=(2, 3)), draw(images, 7, seed=seed + 1)]


def rows(layers, estimator=UnbiasedGramSum, blocks=2):
    found = []
    for features in layers:
        gram = estimator(len(features), features.device, features.dtype)
        for block in block_passes(len(features), blocks):
            gram.add(features[block.images], block)
        found.append(gram.normalised())
    return torch.stack(found)


def shuffled_alignment(first, second, others):
    return equal_layers_alignment(first, shuffle_rows(second.clone(), others))


def unbiased_hsic(k, l):  # noqa: E741 (the paper's letter)
    """HSIC₁ by sums over images that differ, in float64 (Song et al. 2012).

    Σᵢⱼ Kᵢⱼ Lᵢⱼ / (N)₂ + Σᵢⱼₖₗ Kᵢⱼ Lₖₗ / (N)₄ - 2 Σᵢⱼₖ Kᵢⱼ Lᵢₖ / (N)₃, (N)ₘ = N! / (N - m)!.
    """
    n = len(k)
    pairs = triples = quadruples = 0.0
    for i in range(n):
        for j in set(range(n)) - {i}:
            pairs += k[i, j] * l[i, j]
            rest = [m for m in range(n) if m not in (i, j)]
            triples += k[i, j] * sum(l[i, m] for m in rest)
            quadruples += k[i, j] * sum(l[m, o] for m in rest for o in rest if m != o)
    two, three, four = n * (n - 1), n * (n - 1) * (n - 2), n * (n - 1) * (n - 2) * (n - 3)
    return pairs / two + quadruples / four - 2 * triples / three


def textbook(first, second):
    """Unbiased linear CKA of two layers."""
    x, y = first.flatten(1).double().numpy(), second.flatten(1).double().numpy()
    k, l = x @ x.T, y @ y.T  # noqa: E741
    return float(unbiased_hsic(k, l) / (unbiased_hsic(k, k) * unbiased_hsic(l, l)) ** 0.5)


@pytest.mark.parametrize("images", [4, 5, 9])
@pytest.mark.parametrize("blocks", [2, 3])
def test_unbiased_it_is_the_textbook_sum_for_every_pair_of_layers(images, blocks):
    first, second = network(1, images), network(5, images)[:2]
    expected = [[textbook(a, b) for b in second] for a in first]
    found = alignment(rows(first, blocks=blocks), rows(second, blocks=blocks))
    torch.testing.assert_close(found, torch.tensor(expected), atol=1e-5, rtol=0)


def test_of_independent_features_the_biased_estimate_grows_to_1_and_the_unbiased_stays_at_0():
    """By the moments of Wishart matrices the biased one is about width / (width + N)."""
    images = 60
    biased, unbiased = [], []
    for width in (20, 200, 2000, 20000):
        layers = [[draw(images, width, seed=seed)] for seed in (1, 2)]
        biased.append(float(alignment(*(rows(layer, GramSum) for layer in layers))))
        unbiased.append(float(alignment(*(rows(layer) for layer in layers))))
    expected = [width / (width + images) for width in (20, 200, 2000, 20000)]
    assert biased == pytest.approx(expected, abs=0.05)
    # (N choose 2) numbers of each matrix are nearly independent: the error is about √2 / N.
    assert max(map(abs, unbiased)) < 4 * 2**0.5 / images


@settings(deadline=None, max_examples=25, derandomize=True)
@given(
    images=st.integers(4, 30),
    features=st.integers(2, 30),
    scale=st.floats(1e-3, 1e3),
    seed=st.integers(0, 999),
)
def test_unbiased_orthogonal_maps_scales_and_means_change_nothing(images, features, scale, seed):
    first, second = draw(images, features, seed=seed).double(), draw(images, 9, seed=seed + 1)
    rotation = torch.linalg.qr(draw(features, features, seed=seed + 2).double())[0]
    before = alignment(rows([first]), rows([second]))
    after = alignment(rows([scale * first @ rotation + 3 * scale]), rows([second]))
    torch.testing.assert_close(after, before, atol=1e-5, rtol=0)
    assert -1 - 1e-6 <= float(before) <= 1 + 1e-6


def test_unbiased_a_layer_is_aligned_with_itself_and_exchange_transposes():
    first, second = rows(network(1)), rows(network(8)[:2])
    torch.testing.assert_close(alignment(first, first).diagonal(), torch.ones(3))
    torch.testing.assert_close(alignment(first, second), alignment(second, first).T)


def test_unbiased_a_mean_far_above_the_variation_costs_only_the_digits_that_it_takes():
    first, second = draw(12, 50) + 1e3, draw(12, 40, seed=1) - 1e3
    found = float(alignment(rows([first]), rows([second])))
    expected = textbook(first.double() - 1e3, second.double() + 1e3)
    assert found == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("images", [2, 3])
def test_the_unbiased_estimate_needs_four_images(images):
    with pytest.raises(NumericsError, match=f"at least four images, not {images}"):
        UnbiasedGramSum(images, torch.device("cpu"))


UNTOLD = {
    "a constant": torch.full((24, 2, 3, 3), 0.1),
    "features constant up to rounding": draw(1, 40) * (1 + 1e-7 * draw(24, 40, seed=1)),
    "images that all differ alike": torch.eye(24),
}


@pytest.mark.parametrize("name", UNTOLD)
def test_unbiased_a_layer_that_tells_no_images_apart_is_undefined(name):
    alive = network(1, 24)
    found = rows([alive[0], UNTOLD[name], alive[1]])
    assert undefined_layers(found) == [1]
    assert alignment(found, rows(alive))[1].isnan().all()


@pytest.mark.parametrize("images", [2, 3, 20, 101])
def test_a_derangement_leaves_no_image_in_its_place(images):
    others = derangement(images, 0)
    assert sorted(others.tolist()) == list(range(images))
    assert not (others == torch.arange(images)).any()
    assert torch.equal(others, derangement(images, 0))


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("blocks", [2, 3, 12])
def test_shuffled_rows_are_the_rows_of_shuffled_images(estimator, blocks):
    first, second, others = network(1), network(5), derangement(12, 3)
    shuffled_images = [features[others] for features in second]
    expected = alignment(
        rows(first, estimator, blocks), rows(shuffled_images, estimator, blocks)
    ).diagonal()
    found = shuffled_alignment(
        rows(first, estimator, blocks), rows(second, estimator, blocks), others
    )
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    assert not torch.allclose(found, alignment(rows(first), rows(second)).diagonal(), atol=0.1)


def test_shuffled_on_average_it_is_what_the_traces_say_and_unbiased_nothing():
    first, second = draw(30, 40), draw(30, 60, seed=1)
    centred = [x - x.mean(dim=0) for x in (first, second)]
    k, l = (x @ x.T for x in centred)  # noqa: E741
    expected = float(k.trace() * l.trace() / (29 * k.norm() * l.norm()))
    means = []
    for estimator in ESTIMATORS:
        one, other = rows([first], estimator), rows([second], estimator)
        drawn = [shuffled_alignment(one, other, derangement(30, s)) for s in range(200)]
        means.append(float(torch.stack(drawn).mean()))
    assert means == pytest.approx([expected, 0], abs=0.01)


def test_shuffled_a_dead_layer_spoils_no_other():
    alive = network(1)
    with_dead = rows([alive[0], torch.zeros(12, 4), alive[2]])
    found = shuffled_alignment(with_dead, rows(alive), derangement(12, 0))
    assert found.isnan().tolist() == [False, True, False]
