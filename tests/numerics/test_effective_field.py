"""Effective receptive fields that are known in closed form (Luo et al. 2016)."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from rfray.numerics.effective_field import (
    SquaredGradient,
    area,
    central_gradient,
    centre_of_mass,
    has_mass,
    radius,
    share_outside,
)

SIZE = 61


def gradient_of_equal_weights(kernels):
    """Of the central unit of a stack of (size, dilation) kernels whose taps are all 1."""
    layers = [nn.Conv2d(1, 1, size, dilation=step, bias=False) for size, step in kernels]
    stack = nn.Sequential(*layers).double()
    for weight in stack.parameters():
        nn.init.ones_(weight)
    image = torch.randn(1, 1, SIZE, SIZE, dtype=torch.float64, requires_grad=True)
    return central_gradient(stack(image), image)[0, 0]


@pytest.mark.parametrize("depth", [1, 2, 7, 20])
def test_equal_weights_of_two_taps_have_the_binomial_profile(depth):
    gradient = gradient_of_equal_weights([(2, 1)] * depth)
    binomial = torch.tensor([math.comb(depth, i) for i in range(depth + 1)], dtype=torch.float64)
    first = (SIZE - depth) // 2
    reached = slice(first, first + depth + 1)
    torch.testing.assert_close(gradient[reached, reached], binomial[:, None] * binomial)
    assert share_outside(gradient, range(*reached.indices(SIZE)), range(first, SIZE)) == 0


@pytest.mark.parametrize("depth", [1, 2, 7, 20])
def test_their_radius_is_the_binomials_and_of_the_squares_that_of_squared_binomials(depth):
    """C(n, i) has the variance n / 4 along an axis; C(n, i)², hypergeometric, n² / (4 (2n - 1))."""
    gradient = gradient_of_equal_weights([(2, 1)] * depth)
    assert radius(gradient) == pytest.approx(math.sqrt(2 * depth / 4))
    squares = gradient.square()
    assert radius(squares) == pytest.approx(math.sqrt(2 * depth**2 / (4 * (2 * depth - 1))))


@pytest.mark.parametrize(
    "kernels",
    [
        [(3, 1)] * 5,
        [(3, 1), (5, 1), (7, 1)],
        [(3, 1), (3, 2), (3, 4)],
        [(5, 3)],
        [(4, 2), (3, 5), (2, 1)],
    ],
    ids=str,
)
def test_variances_of_equal_kernels_add_up_also_of_dilated_ones(kernels):
    """k taps, d pixels apart, have the variance d² (k² - 1) / 12."""
    gradient = gradient_of_equal_weights(kernels)
    variance = sum(step**2 * (size**2 - 1) / 12 for size, step in kernels)
    assert radius(gradient) == pytest.approx(math.sqrt(2 * variance))


def test_a_dilated_kernel_reaches_its_own_pixels_and_no_other():
    squares = gradient_of_equal_weights([(3, 4)]).square()
    places = [SIZE // 2 - 4, SIZE // 2, SIZE // 2 + 4]
    assert squares.nonzero().tolist() == [[row, column] for row in places for column in places]
    assert area(squares) == area(squares, held=1.0) == 9


@pytest.mark.parametrize(("size", "place"), [(5, 2), (6, 3), (1, 0)])
def test_the_centre_is_the_middle_unit_or_the_right_one_of_two(size, place):
    images = torch.zeros(1, 1, size, size, requires_grad=True)
    gradient = central_gradient(images * 2, images)
    assert gradient[0, 0].nonzero().tolist() == [[place, place]]
    assert centre_of_mass(gradient[0, 0]) == (place, place)


def test_a_radius_does_not_depend_on_place_or_scale():
    pair = torch.zeros(9, 12)
    pair[2, 3] = pair[2, 9] = 1e-20
    assert radius(pair) == pytest.approx(3)
    assert radius(1e30 * pair.roll((5, 2), dims=(0, 1))) == pytest.approx(3)
    assert centre_of_mass(pair) == pytest.approx((2, 6))


def test_the_radius_of_a_gaussian_is_root_two_of_its_deviation():
    places = torch.arange(201, dtype=torch.float64) - 100
    profile = torch.exp(-places.square() / (2 * 9.0**2))
    assert radius(profile[:, None] * profile) == pytest.approx(math.sqrt(2) * 9)


def test_the_area_is_the_smallest_number_of_pixels_that_hold_the_share():
    squares = torch.tensor([[0.5, 0.0, 0.1], [0.0, 0.25, 0.15]], dtype=torch.float64)
    for held, pixels in ((0.4, 1), (0.5, 1), (0.51, 2), (0.9, 3), (0.95, 4), (1.0, 4)):
        assert area(squares, held) == pixels


@pytest.mark.parametrize("pixels", [20, 100, 1000])
def test_pixels_that_hold_the_share_exactly_need_no_other_for_a_rounding_error(pixels):
    assert area(torch.full((1, pixels), 0.1)) == 0.95 * pixels


@pytest.mark.parametrize("value", [0.0, math.nan, math.inf])
def test_what_has_no_mass_is_told(value):
    assert not has_mass(torch.full((2, 2), value))
    assert has_mass(torch.full((2, 2), 1e-300, dtype=torch.float64))


def test_squares_are_means_over_images_and_channels_however_they_are_batched():
    gradients = torch.randn(7, 3, 4, 5) * 1e-25  # the squares are no float32 numbers
    batched = SquaredGradient()
    for batch in gradients.split(3):
        batched.add(batch)
    expected = gradients.double().square().mean(dim=(0, 1))
    torch.testing.assert_close(batched.mean, expected, rtol=1e-12, atol=0)
    assert batched.images == 7


def test_how_many_images_a_mean_rests_on():
    equal, one = SquaredGradient(), SquaredGradient()
    equal.add(torch.ones(5, 3, 2, 2))
    one.add(torch.tensor([0.0, 1.0, 1e-9]).reshape(3, 1, 1, 1))
    assert equal.effective_images == pytest.approx(5)
    assert one.effective_images == pytest.approx(1)
