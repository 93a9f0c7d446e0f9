"""Convolutions with live taps only: the same values with less work.

On a 1×1 map with padding, only the centre tap of a 3×3 kernel meets the map; the other eight
multiply padding. Libraries compute all nine, with their first and second derivatives.
"""

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, cast

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode


class LiveTaps(TorchFunctionMode):
    """A context in which `conv2d` leaves out outer rows and columns of dead taps.

    Values and derivatives are those of the whole kernel (up to the order of summation); the dead
    taps get their gradient, which is zero. Calls with keyword arguments and named paddings are not
    changed.
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
    """The forward pass of `module`, for one tensor, inside `LiveTaps`.

    The module may be the result of `torch.compile`, which then compiles live taps only.
    """

    def forward(images: Tensor) -> Tensor:
        with LiveTaps():
            return cast(Tensor, module(images))

    return forward


def dead_border(size: int, kernel: int, stride: int, padding: int, dilation: int) -> int:
    """How many outermost taps on each side of one axis are dead, for a map of `size` pixels.

    So many rows (columns) of taps can be removed at the start and also at the end: the remaining
    kernel with `padding - dilation * border` gives the same outputs.
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
    """`torch.conv2d` without the outer dead taps, with the same arguments and result."""
    if isinstance(padding, str):
        return torch.conv2d(image, weight, bias, _pair(stride), padding, _pair(dilation), groups)
    strides, paddings, dilations = _pair(stride), _pair(padding), _pair(dilation)
    # The compiler calls it once, and warns about a cached function.
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
