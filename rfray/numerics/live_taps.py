"""Convolve with the taps that can touch the map: the same values, in a fraction of the work.

On a 1×1 map a padded 3×3 kernel multiplies the map with its centre tap alone and padding with the
other eight. Libraries compute all nine, and their derivatives, and the second ones.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, cast

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode


class LiveTaps(TorchFunctionMode):
    """Inside this context `conv2d` leaves out outer rows and columns of taps that see only padding.

    Values and derivatives are those of the whole kernel (up to the order of summation); the taps
    left out get the gradient zero, which is their gradient. Calls by keyword and paddings by name
    are left alone.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        if func is torch.conv2d and not kwargs:
            return live_convolution(*args)
        return func(*args, **(kwargs or {}))


def without_dead_taps(module: Callable[..., Any]) -> Callable[[Tensor], Tensor]:
    """The forward pass of `module`, of one tensor, inside `LiveTaps`.

    Args:
        module: A module, or what `torch.compile` makes of one: it compiles what it sees in here.
    """

    def forward(images: Tensor) -> Tensor:
        with LiveTaps():
            return cast(Tensor, module(images))

    return forward


def dead_border(size: int, kernel: int, stride: int, padding: int, dilation: int) -> int:
    """How many outermost taps on either side of one axis see nothing but padding.

    Args:
        size: Of the map along the axis, pixels, without padding.
        kernel: Taps along the axis.
        stride: Pixels between outputs.
        padding: Pixels added on either side.
        dilation: Pixels between taps.

    Returns:
        The number of rows (columns) of taps to drop at the start and at the end alike, so that the
        remaining kernel with `padding - dilation * border` gives the same outputs.
    """
    outputs = (size + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1
    live = [
        any(0 <= place * stride + tap * dilation - padding < size for place in range(outputs))
        for tap in range(kernel)
    ]
    if not any(live):
        return 0
    border = min(live.index(True), live[::-1].index(True))
    return min(border, padding // dilation)


_remembered_border = cache(dead_border)


def live_convolution(
    image: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int | Sequence[int] = 1,
    padding: str | int | Sequence[int] = 0,
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
) -> Tensor:
    """`torch.conv2d` without the outer taps that see only padding; its arguments and its result."""
    if isinstance(padding, str):
        return torch.conv2d(image, weight, bias, _pair(stride), padding, _pair(dilation), groups)
    strides, paddings, dilations = _pair(stride), _pair(padding), _pair(dilation)
    # A compiler looks once, and through a cache only with a warning.
    border_of = dead_border if torch.compiler.is_compiling() else _remembered_border
    for axis in range(2):
        border = border_of(
            image.shape[axis - 2],
            weight.shape[axis - 2],
            strides[axis],
            paddings[axis],
            dilations[axis],
        )
        if border:
            weight = weight.narrow(axis - 2, border, weight.shape[axis - 2] - 2 * border)
            paddings[axis] -= border * dilations[axis]
    return torch.conv2d(image, weight, bias, strides, paddings, dilations, groups)


def _pair(value: int | Sequence[int]) -> list[int]:
    return [value, value] if isinstance(value, int) else list(value)
