"""Weight matching against trying every permutation, and on permuted copies."""

from __future__ import annotations

from itertools import permutations, product

import numpy as np
import pytest

from rfray.numerics.weight_matching import Group, Occurrence, permuted, weight_matching

INPUTS, FIRST, SECOND, CLASSES = 5, 4, 3, 2


def whole(count):
    return np.arange(count)[:, None]


def perceptron(seed):
    """Two hidden layers, the second one with a norm behind it."""
    drawn = np.random.default_rng(seed)
    shapes = {
        "one": (FIRST, INPUTS),
        "one_bias": (FIRST,),
        "two": (SECOND, FIRST),
        "norm": (SECOND,),
        "last": (CLASSES, SECOND),
    }
    return {name: drawn.standard_normal(shape) for name, shape in shapes.items()}


GROUPS = (
    Group(
        (
            Occurrence("one", 0, whole(FIRST)),
            Occurrence("one_bias", 0, whole(FIRST)),
            Occurrence("two", 1, whole(FIRST)),
        )
    ),
    Group(
        (
            Occurrence("two", 0, whole(SECOND)),
            Occurrence("norm", 0, whole(SECOND)),
            Occurrence("last", 1, whole(SECOND)),
        )
    ),
)


def nearness(first, second):
    return sum(float(np.vdot(first[name], second[name])) for name in first)


def all_orders(groups=GROUPS):
    each = (map(np.array, permutations(range(group.size))) for group in groups)
    return list(product(*each))


def test_a_permutation_moves_rows_here_and_columns_there():
    arrays = perceptron(0)
    moved = permuted(arrays, GROUPS, [np.array([2, 0, 1, 3]), np.array([0, 2, 1])])
    np.testing.assert_array_equal(moved["one"], arrays["one"][[2, 0, 1, 3]])
    np.testing.assert_array_equal(moved["one_bias"], arrays["one_bias"][[2, 0, 1, 3]])
    np.testing.assert_array_equal(moved["two"], arrays["two"][[0, 2, 1]][:, [2, 0, 1, 3]])
    np.testing.assert_array_equal(moved["last"], arrays["last"][:, [0, 2, 1]])


def test_numbers_of_one_member_move_together_and_only_in_their_rows():
    """A flattened map has several numbers a channel, a grouped layer its inputs in some rows."""
    array = np.arange(24.0).reshape(4, 6)
    group = Group((Occurrence("flat", 1, np.array([[0, 1], [2, 3], [4, 5]]), range(2, 4)),))
    moved = permuted({"flat": array}, [group], [np.array([1, 2, 0])])["flat"]
    np.testing.assert_array_equal(moved[:2], array[:2])
    np.testing.assert_array_equal(moved[2:], array[2:, [2, 3, 4, 5, 0, 1]])


@pytest.mark.parametrize("seed", range(8))
def test_no_permutation_of_one_group_is_nearer_and_no_order_was_lost(seed):
    """Every change of one group alone is tried: that is where Algorithm 1 ends."""
    first, second = perceptron(seed), perceptron(100 + seed)
    found = weight_matching(first, second, GROUPS)
    near = nearness(first, permuted(second, GROUPS, found))
    assert near >= nearness(first, second)
    for number, group in enumerate(GROUPS):
        for order in permutations(range(group.size)):
            other = [*found]
            other[number] = np.array(order)
            assert nearness(first, permuted(second, GROUPS, other)) <= near + 1e-9


def test_mostly_it_is_the_best_of_all_permutations():
    best = []
    for seed in range(10):
        first, second = perceptron(seed), perceptron(100 + seed)
        found = nearness(first, permuted(second, GROUPS, weight_matching(first, second, GROUPS)))
        every = [nearness(first, permuted(second, GROUPS, orders)) for orders in all_orders()]
        assert found <= max(every) + 1e-9
        best.append(found > max(every) - 1e-9)
    assert sum(best) >= 7


@pytest.mark.parametrize("seed", range(5))
def test_a_permuted_copy_is_found_whatever_the_permutation(seed):
    first, drawn = perceptron(seed), np.random.default_rng(seed)
    orders = [drawn.permutation(group.size) for group in GROUPS]
    second = permuted(first, GROUPS, orders)
    back = permuted(second, GROUPS, weight_matching(first, second, GROUPS))
    for name in first:
        np.testing.assert_array_equal(back[name], first[name])


def test_a_group_on_both_axes_of_one_array_is_never_made_worse():
    """`x + W x` without a norm: the assignment of such a group is a proposal alone."""
    index = whole(6)
    groups = [Group((Occurrence("stream", 0, index), Occurrence("stream", 1, index)))]
    for seed in range(20):
        drawn = np.random.default_rng(seed)
        first, second = ({"stream": drawn.standard_normal((6, 6))} for _ in range(2))
        found = weight_matching(first, second, groups)
        near = nearness(first, permuted(second, groups, found))
        started = weight_matching(first, second, groups, seed=seed)
        assert near == nearness(first, permuted(second, groups, started))
        for order in (found[0], np.arange(6)):
            assert near >= nearness(first, permuted(second, groups, [order])) - 1e-9


def test_what_is_not_matched_is_left_out():
    first, second = perceptron(0), perceptron(1)
    for one in (first, second):
        del one["norm"]
    orders = weight_matching(first, second, GROUPS)
    assert [sorted(order) for order in orders] == [[0, 1, 2, 3], [0, 1, 2]]


def test_the_same_again_gives_the_same():
    first, second = perceptron(0), perceptron(1)
    one, other = (weight_matching(first, second, GROUPS) for _ in range(2))
    assert all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))
