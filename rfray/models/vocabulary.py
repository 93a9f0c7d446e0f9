"""The meaning of torch's modules and functions as operations of a description.

One line here makes a module or a function readable: it makes the operation from the module's
settings or the call's arguments.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from torch import fx, nn
from torchvision.models.convnext import LayerNorm2d
from torchvision.ops import StochasticDepth

from rfray.models import operations as ops


class Unreadable(Exception):  # noqa: N818 (it is an answer more than an error)
    """Something has no meaning as an operation, with the reason."""


def _extent(value: Any) -> ops.Extent:
    """One number if both axes are equal, else two; Unreadable if it is neither."""
    numbers = (value, value) if isinstance(value, int) else tuple(value or ())
    if len(numbers) == 1:
        numbers *= 2
    if len(numbers) != 2 or not all(isinstance(number, int) for number in numbers):
        raise Unreadable(f"has a size of {value!r}")
    return ops.extent(*numbers)


def _convolution(conv: nn.Conv2d) -> ops.Operation:
    if conv.padding_mode != "zeros":
        raise Unreadable(f"pads with '{conv.padding_mode}'")
    return ops.Convolution(
        conv.in_channels,
        conv.out_channels,
        kernel_size=_extent(conv.kernel_size),
        stride=_extent(conv.stride),
        padding=_padding(conv),
        dilation=_extent(conv.dilation),
        bias=conv.bias is not None,
        groups=conv.groups,
    )


def _padding(conv: nn.Conv2d) -> ops.Extent:
    if conv.padding == "valid":
        return 0
    if conv.padding != "same":
        return _extent(conv.padding)
    spans = [d * (k - 1) for d, k in zip(conv.dilation, conv.kernel_size, strict=True)]
    if any(span % 2 for span in spans):
        raise Unreadable("pads one side more than the other")
    return _extent([span // 2 for span in spans])


def _batch_norm(norm: nn.BatchNorm2d | nn.BatchNorm1d) -> ops.Operation:
    if not norm.affine or not norm.track_running_stats or norm.momentum is None:
        raise Unreadable("has no parameters or no running statistics")
    kind = ops.BatchNorm if isinstance(norm, nn.BatchNorm2d) else ops.VectorBatchNorm
    return kind(norm.num_features, norm.eps, norm.momentum)


def _channel_norm(norm: nn.LayerNorm) -> ops.Operation:
    if len(norm.normalized_shape) != 1 or norm.weight is None or norm.bias is None:
        raise Unreadable("is not over channels with a weight and a bias")
    return ops.ChannelNorm(norm.normalized_shape[0], norm.eps)


def _group_norm(norm: nn.GroupNorm) -> ops.Operation:
    if not norm.affine:
        raise Unreadable("has no parameters")
    return ops.GroupNorm(norm.num_groups, norm.num_channels, norm.eps)


def _average_pool(pool: Any) -> ops.Operation:
    if getattr(pool, "divisor_override", None) is not None:
        raise Unreadable("has a divisor_override")
    return ops.AveragePool(
        _extent(pool.kernel_size),
        _extent(pool.stride),
        _extent(pool.padding),
        bool(pool.ceil_mode),
        bool(pool.count_include_pad),
    )


def _max_pool(pool: Any) -> ops.Operation:
    if pool.return_indices:
        raise Unreadable("returns indices as well")
    return ops.MaxPool(
        _extent(pool.kernel_size),
        _extent(pool.stride),
        _extent(pool.padding),
        _extent(pool.dilation),
        bool(pool.ceil_mode),
    )


def _flatten(flatten: nn.Flatten) -> ops.Operation:
    if (flatten.start_dim, flatten.end_dim) not in ((1, -1), (1, 3)):
        raise Unreadable("does not make vectors of maps")
    return ops.Flatten()


MODULES: Mapping[type[nn.Module], Callable[[Any], ops.Operation]] = MappingProxyType(
    {
        nn.Conv2d: _convolution,
        nn.Linear: lambda one: ops.Linear(one.in_features, one.out_features, one.bias is not None),
        nn.BatchNorm2d: _batch_norm,
        nn.BatchNorm1d: _batch_norm,
        nn.LayerNorm: _channel_norm,
        LayerNorm2d: _channel_norm,
        nn.GroupNorm: _group_norm,
        nn.MaxPool2d: _max_pool,
        nn.AvgPool2d: _average_pool,
        nn.AdaptiveAvgPool2d: lambda one: ops.AdaptiveAveragePool(_extent(one.output_size)),
        nn.Flatten: _flatten,
        nn.ReLU: lambda _: ops.Relu(),
        nn.ReLU6: lambda _: ops.Relu6(),
        nn.LeakyReLU: lambda one: ops.LeakyRelu(one.negative_slope),
        nn.ELU: lambda one: ops.Elu(one.alpha),
        nn.SiLU: lambda _: ops.Silu(),
        nn.Hardswish: lambda _: ops.Hardswish(),
        nn.GELU: lambda one: ops.Gelu(one.approximate),
        nn.Tanh: lambda _: ops.Tanh(),
        nn.Sigmoid: lambda _: ops.Sigmoid(),
        nn.Hardsigmoid: lambda _: ops.Hardsigmoid(),
        nn.Dropout: lambda one: ops.Dropout(one.p),
        nn.Dropout2d: lambda one: ops.ChannelDropout(one.p),
        nn.ChannelShuffle: lambda one: ops.ChannelShuffle(one.groups),
        StochasticDepth: lambda one: ops.StochasticDepth(one.p, one.mode),
    }
)
"""By exact type: a subclass may compute something else."""

_POOL = ("kernel_size", "stride", "padding")

_CALLED: Mapping[str, tuple[type[nn.Module], tuple[str, ...]]] = MappingProxyType(
    {
        "relu": (nn.ReLU, ()),
        "relu6": (nn.ReLU6, ()),
        "silu": (nn.SiLU, ()),
        "hardswish": (nn.Hardswish, ()),
        "tanh": (nn.Tanh, ()),
        "sigmoid": (nn.Sigmoid, ()),
        "hardsigmoid": (nn.Hardsigmoid, ()),
        "gelu": (nn.GELU, ("approximate",)),
        "leaky_relu": (nn.LeakyReLU, ("negative_slope",)),
        "elu": (nn.ELU, ("alpha",)),
        "max_pool2d": (nn.MaxPool2d, (*_POOL, "dilation", "ceil_mode", "return_indices")),
        "avg_pool2d": (
            nn.AvgPool2d,
            (*_POOL, "ceil_mode", "count_include_pad", "divisor_override"),
        ),
        "adaptive_avg_pool2d": (nn.AdaptiveAvgPool2d, ("output_size",)),
        "dropout": (nn.Dropout, ("p", "training")),
    }
)
"""Functions and methods of one map, by their names without the mark of in-place calls: the module
that does the same, and its further arguments in order."""


def operation_of(module: nn.Module) -> ops.Operation:
    """The operation of a module; Unreadable if it has none."""
    if type(module) not in MODULES:
        raise Unreadable("is unknown")
    return MODULES[type(module)](module)


def called(node: fx.Node) -> ops.Operation:
    """The operation of a call of a function or a method of one map; Unreadable if it has none."""
    if call_name(node.target) not in _CALLED:
        raise Unreadable("is unknown")
    kind, names = _CALLED[call_name(node.target)]
    given = arguments(node, ("input", *names, "inplace"))
    settings = {name: given[name] for name in names if name in given}
    # Traced in training mode: false here is false in every mode, true follows the mode.
    if not settings.pop("training", True):
        settings["p"] = 0.0
    return operation_of(kind(**settings))


def call_name(target: Any) -> str:
    """The name of a function or a method: `relu` for `F.relu`, `torch.relu_` and `Tensor.relu`."""
    name = target if isinstance(target, str) else getattr(target, "__name__", str(target))
    return name.strip("_")


def in_place(node: fx.Node) -> bool:
    """Whether a call changes its first argument."""
    target = node.target
    name = target if isinstance(target, str) else getattr(target, "__name__", "")
    marked = name.endswith("_") and not name.endswith("__")
    return marked or name in ("iadd", "imul") or node.kwargs.get("inplace") is True


def arguments(node: fx.Node, names: tuple[str, ...]) -> dict[str, Any]:
    """A call's arguments by name, without those that it does not give.

    Raises:
        Unreadable: There are more than `names`, or one is computed by the network.
    """
    if len(node.args) > len(names):
        raise Unreadable("has more arguments than are known")
    given = {**dict(zip(names, node.args, strict=False)), **node.kwargs}
    return {name: given[name] for name in names if name in given and given[name] is not None}
