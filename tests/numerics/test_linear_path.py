"""The line between two networks, and the barrier on it, on numbers that can be added by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from rfray.numerics.linear_path import barrier, excess, interpolated, positions


def test_positions_are_equally_far_apart_and_both_ends_are_among_them():
    assert positions(5).tolist() == [0.0, 0.25, 0.5, 0.75, 1.0]


def test_weights_are_mixed_and_counts_are_not():
    first = {"weight": torch.tensor([1.0, 2.0]), "batches": torch.tensor(7)}
    second = {"weight": torch.tensor([3.0, -2.0]), "batches": torch.tensor(9)}
    middle = interpolated(first, second, 0.25)
    assert middle["weight"].tolist() == [1.5, 1.0]
    assert middle["batches"] == 7


@pytest.mark.parametrize("alpha", positions(11).tolist())
def test_ends_are_exact_and_the_line_from_a_network_to_itself_is_a_point(alpha):
    drawn = torch.Generator().manual_seed(0)
    first, second = ({"weight": torch.randn(1000, generator=drawn)} for _ in range(2))
    assert torch.equal(interpolated(first, first, alpha)["weight"], first["weight"])
    if alpha in (0.0, 1.0):
        end = first if alpha == 0 else second
        assert torch.equal(interpolated(first, second, alpha)["weight"], end["weight"])


def test_the_barrier_is_the_largest_excess_over_the_line_between_the_ends():
    alphas = np.array([0.0, 0.25, 0.5, 1.0])
    values = np.array([2.0, 5.0, 4.0, 0.0])  # the line: 2, 1.5, 1, 0
    assert excess(alphas, values).tolist() == [0, 3.5, 3, 0]
    assert barrier(alphas, values) == 3.5


def test_a_path_under_its_line_has_no_barrier():
    alphas = positions(11)
    assert barrier(alphas, (alphas - 0.3) ** 2) == 0


def test_many_paths_at_once_and_one_that_is_not_finite_has_none():
    alphas = positions(3)
    values = np.array([[0.0, 1.0, 0.0], [0.0, np.inf, 0.0], [1.0, 1.0, np.nan], [1.0, 0.0, 1.0]])
    np.testing.assert_array_equal(barrier(alphas, values), [1.0, np.nan, np.nan, 0.0])


@pytest.mark.parametrize("seed", range(5))
def test_a_convex_loss_is_never_above_the_line(seed):
    """Softmax regression: the loss of every mixture is at most the mixture of the losses."""
    drawn = torch.Generator().manual_seed(seed)
    images = torch.randn(50, 8, generator=drawn, dtype=torch.float64)
    labels = torch.randint(4, (50,), generator=drawn)
    first, second = (
        {"weight": 3 * torch.randn(4, 8, generator=drawn, dtype=torch.float64)} for _ in range(2)
    )
    alphas = positions(21)
    losses = [
        float(
            torch.nn.functional.cross_entropy(
                images @ interpolated(first, second, alpha)["weight"].T, labels
            )
        )
        for alpha in alphas
    ]
    assert excess(alphas, np.array(losses)).max() <= 1e-12
    assert excess(alphas, np.array(losses)).min() < -0.1
    assert barrier(alphas, np.array(losses)) == pytest.approx(0, abs=1e-12)
