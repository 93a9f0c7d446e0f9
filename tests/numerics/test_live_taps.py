from __future__ import annotations

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from rfray.numerics.live_taps import LiveTaps, dead_border

AXIS = {
    "size": st.integers(1, 6),
    "kernel": st.integers(1, 5),
    "stride": st.integers(1, 3),
    "padding": st.integers(0, 4),
    "dilation": st.integers(1, 2),
}


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "padding", "border"),
    [(1, 3, 1, 1, 1), (2, 3, 1, 1, 0), (1, 5, 1, 2, 2), (2, 5, 1, 2, 1), (1, 3, 2, 1, 1)],
)
def test_a_tap_is_dead_where_it_only_sees_padding(size, kernel, stride, padding, border):
    assert dead_border(size, kernel, stride, padding, dilation=1) == border


def derivatives(image, weight, options):
    """Output, first derivatives, and the derivative of their squared length."""
    output = torch.conv2d(image, weight, None, *options)
    first = torch.autograd.grad(output.pow(3).sum(), (image, weight), create_graph=True)
    second = torch.autograd.grad(sum(d.square().sum() for d in first), (image, weight))
    return [output, *first, *second]


@settings(deadline=None, max_examples=100, derandomize=True)
@given(**AXIS)
def test_values_and_derivatives_are_those_of_the_whole_kernel(
    size, kernel, stride, padding, dilation
):
    assume(size + 2 * padding >= dilation * (kernel - 1) + 1)
    draws = torch.Generator().manual_seed(0)
    image = torch.randn(2, 2, size, 3, generator=draws, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(3, 2, kernel, 3, generator=draws, dtype=torch.float64, requires_grad=True)
    options = ((stride, 1), (padding, 1), (dilation, 1))
    expected = derivatives(image, weight, options)
    with LiveTaps():
        found = derivatives(image, weight, options)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b)


def test_padding_by_name_is_left_alone():
    image, weight = torch.randn(1, 1, 1, 1), torch.randn(1, 1, 3, 3)
    with LiveTaps():
        found = torch.conv2d(image, weight, None, 1, "same")
    torch.testing.assert_close(found, torch.conv2d(image, weight, None, 1, "same"))
