from __future__ import annotations

import pytest
import torch
from matrices import eigenvalues_of, generator, matrix_with
from small_nets import batch, convolutional, explicit_hessian

from rfray.numerics.errors import NumericsError
from rfray.numerics.hessian import hessian_operator
from rfray.numerics.lanczos import largest_eigenvalues
from rfray.numerics.operator import gaussian_block, matrix_operator
from rfray.numerics.support import embedded, restricted, support

HOLES = [0, 3, 4, 11]


def with_holes():
    """A matrix of 12 rows, four of them zero."""
    matrix = torch.zeros(12, 12, dtype=torch.float64)
    live = [i for i in range(12) if i not in HOLES]
    matrix[torch.tensor(live)[:, None], torch.tensor(live)] = matrix_with(
        [5, 4, 1, 0, 0, -1, -2, -3]
    )
    return matrix, live


def test_rows_of_zeros_are_left_out():
    matrix, live = with_holes()
    assert support(matrix_operator(matrix), 0, generator()).tolist() == live


def test_spare_coordinates_are_kept():
    kept = support(matrix_operator(with_holes()[0]), 2, generator()).tolist()
    assert kept == sorted([*with_holes()[1], *HOLES[:2]])


def test_the_restriction_is_the_principal_submatrix():
    matrix, live = with_holes()
    operator = matrix_operator(matrix)
    small = restricted(operator, torch.tensor(live))
    everything = torch.eye(len(live), dtype=torch.float64)
    assert small.dimension == len(live)
    torch.testing.assert_close(small.apply(everything), matrix[live][:, live])


def test_the_largest_eigenvalues_are_kept_with_the_zeros_among_them():
    """Two of the eight live eigenvalues are 0, and four zeros more are the coordinates' own."""
    matrix, _ = with_holes()
    operator = matrix_operator(matrix)
    count = 8
    kept = support(operator, count, generator())
    found = largest_eigenvalues(restricted(operator, kept), count, generator=generator())
    assert found.values.numpy() == pytest.approx(eigenvalues_of(matrix)[:count], abs=1e-9)


def test_eigenvectors_embed_into_the_whole_space():
    matrix, live = with_holes()
    kept = torch.tensor(live)
    found = largest_eigenvalues(
        restricted(matrix_operator(matrix), kept), 2, generator=generator(), tolerance=1e-9
    )
    vectors = embedded(found.vectors, kept, 12)
    torch.testing.assert_close(matrix @ vectors, vectors * found.values)


def test_a_product_that_leaves_the_support_is_refused():
    operator = restricted(matrix_operator(matrix_with(range(1, 6))), torch.tensor([0, 2, 3]))
    with pytest.raises(NumericsError, match="zero rows"):
        operator.apply(torch.ones(3, 1, dtype=torch.float64))


def test_the_support_of_a_network_is_that_of_its_explicit_hessian():
    """The second convolution sees 1×1 maps: eight of its nine taps see only padding."""
    net, (images, labels) = convolutional(), batch()
    operator = hessian_operator(net, images, labels)
    live = explicit_hessian(net, images, labels).abs().sum(dim=1) > 0
    kept = support(operator, 0, generator())
    assert kept.tolist() == live.nonzero().flatten().tolist()
    dead_taps = 8 * net[4].in_channels * net[4].out_channels
    assert operator.dimension - len(kept) >= dead_taps
    block = gaussian_block(restricted(operator, kept), 2, generator())
    torch.testing.assert_close(
        embedded(restricted(operator, kept).apply(block), kept, operator.dimension),
        operator.apply(embedded(block, kept, operator.dimension)),
    )
