"""Reads a torch module into a description, with `torch.fx`.

The module is traced symbolically, in training mode, without an image. Layers keep the module's
names, and so do parameters. The meaning of calls is in `rfray.models.vocabulary`. A part that
cannot be read is refused only if the output depends on it.
"""

from __future__ import annotations

import operator
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, NoReturn

import torch
from torch import fx, nn

from rfray.errors import UserError
from rfray.models.network import INPUT, Layer
from rfray.models.operations import (
    AdaptiveAveragePool,
    Add,
    ChannelChunk,
    ChannelLinear,
    ChannelNorm,
    ChannelShuffle,
    ChannelSlice,
    Concatenate,
    Convolution,
    Flatten,
    GlobalAveragePool,
    Linear,
    Operation,
    Product,
    Rescale,
    Scale,
    VectorBatchNorm,
)
from rfray.models.vocabulary import (
    MODULES,
    PASSED_ON,
    PASSED_ON_CALLS,
    Unreadable,
    arguments,
    call_name,
    called,
    in_place,
)
from rfray.plugins.user_code import in_a_line

Kind = Literal["map", "channels last", "vector"]

_TO_LAST, _TO_FIRST = (0, 2, 3, 1), (0, 3, 1, 2)
_SPATIAL: Mapping[str, set[int]] = {"map": {2, 3}, "channels last": {1, 2}, "vector": set()}


@dataclass(frozen=True)
class _Value:
    """The output of a layer, as the module sees it; in the description channels come first."""

    layer: str
    kind: Kind = "map"


@dataclass(frozen=True)
class _Parts:
    """A map's channels in parts: a number of parts of equal size, or parts of given sizes."""

    whole: _Value
    parts: int | tuple[int, ...]
    size: int = 0

    def part(self, index: int) -> Operation:
        """The operation that gives one of them; Unreadable if its position is not known."""
        if isinstance(self.parts, tuple):
            first = sum(self.parts[: range(len(self.parts))[index]])
            return ChannelSlice(first, first + self.parts[index])
        if not self.size:
            return ChannelChunk(index % self.parts, self.parts)
        if index < 0:
            raise Unreadable("counts parts from the last")
        return ChannelSlice(index * self.size, (index + 1) * self.size)


@dataclass(frozen=True)
class _Grouped:
    """A map's channels in groups, as a step of a channel shuffle."""

    whole: _Value
    groups: int
    transposed: bool = False


@dataclass(frozen=True)
class _Parameter:
    """A parameter of the module itself, perhaps in another shape."""

    name: str
    sizes: tuple[int, ...] = ()

    def shape(self, module: nn.Module) -> tuple[int, ...]:
        """Its shape in use."""
        held: torch.Tensor = operator.attrgetter(self.name)(module)
        return tuple(held.reshape(self.sizes).shape if self.sizes else held.shape)


@dataclass(frozen=True)
class _Unread:
    """Something that cannot be read, with the reason."""

    reason: str


_Meaning = _Value | _Parts | _Grouped | _Parameter | _Unread


def read(module: nn.Module, where: str) -> tuple[Layer, ...]:
    """The layers of an image classifier, in the order of its forward pass.

    Args:
        module: Takes images (images, 3, height, width), gives logits (images, classes). It is put
            into training mode.
        where: Its name in messages.

    Raises:
        UserError: It cannot be traced, or its output depends on something that cannot be read.
    """
    graph = _graph(module.train(), where)
    reader = _Reader(module)
    for node in graph.nodes:
        reader.take(node)
    if not isinstance(reader.output, _Value):
        reason = reader.output.reason if isinstance(reader.output, _Unread) else "no logits"
        raise UserError(f"cannot be read: {_attention(module) or reason}", where=where)
    layers = _pools_that_flatten(_needed(reader.layers, reader.output.layer))
    if not any(isinstance(layer.operation, Convolution) for layer in layers):
        raise UserError("has no convolution", where=where)
    return layers


def _attention(module: nn.Module) -> str:
    """The reason why a module with attention cannot be read; empty if it has none."""
    for name, part in module.named_modules():
        kind = type(part).__name__
        if "Attention" in kind:
            return f"module '{name}' ({kind}) is attention, in which every pixel sees every pixel"
    return ""


class _Tracer(fx.Tracer):
    """Does not trace into modules that have a meaning; records the current module."""

    def __init__(self) -> None:
        super().__init__()
        self.path: list[str] = []

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return (
            type(m) in MODULES
            or type(m) in PASSED_ON
            or super().is_leaf_module(m, module_qualified_name)
        )

    def call_module(
        self,
        m: nn.Module,
        forward: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:
        self.path.append(f"'{self.path_of_module(m)}' ({type(m).__name__})")
        result = super().call_module(m, forward, args, kwargs)
        self.path.pop()  # not after an error: the path says where it was raised
        return result


def _graph(module: nn.Module, where: str) -> fx.Graph:
    tracer = _Tracer()
    try:
        return tracer.trace(module)
    except Exception as error:  # a user's code may raise anything
        part = (
            f"module {tracer.path[-1]}" if tracer.path else f"the network ({type(module).__name__})"
        )
        depends = isinstance(error, fx.proxy.TraceError)
        reason = "what it computes depends on its data" if depends else in_a_line(error)
        raise UserError(
            f"{part} cannot be read: {reason}", where=line_of(error) or where
        ) from error


def line_of(error: Exception) -> str:
    """File and line in the user's own code at which an error was raised; empty if none."""
    others = (Path(torch.__file__).parent, Path(__file__).parent)
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        parents = Path(frame.filename).parents
        if Path(frame.filename).is_file() and not any(other in parents for other in others):
            return f"{frame.filename}:{frame.lineno}"
    return ""


class _Reader:
    """Reads a graph node by node.

    Attributes:
        layers: The layers read so far.
        output: The output of the graph.
    """

    def __init__(self, module: nn.Module) -> None:
        self.layers: list[Layer] = []
        self.output: _Meaning = _Unread("it has no output")
        self._module = module
        self._taken = {name for name, _ in module.named_modules()}
        self._meanings: dict[fx.Node, _Meaning] = {}
        self._names: set[str] = set()

    def take(self, node: fx.Node) -> None:
        """Read one node."""
        try:
            self._meanings[node] = self._meaning(node)
        except Unreadable as problem:
            self._meanings[node] = _Unread(str(problem))

    def _meaning(self, node: fx.Node) -> _Meaning:
        match node.op:
            case "placeholder":
                first = INPUT not in {m.layer for m in self._values()}
                unknown = f"its input '{node.name}' is not the image"
                return _Value(INPUT) if first else _Unread(unknown)
            case "get_attr":
                return _Parameter(str(node.target))
            case "output":
                self.output = self._logits(node.args[0])
                return self.output
            case "call_module":
                return self._of_module(node)
            case _:
                return self._of_call(node)

    def _values(self) -> Iterable[_Value]:
        return (one for one in self._meanings.values() if isinstance(one, _Value))

    def _logits(self, given: Any) -> _Meaning:
        if not isinstance(given, fx.Node):
            return _Unread(f"it gives a {type(given).__name__}, not one tensor of logits")
        meaning = self._meanings[given]
        vector = isinstance(meaning, _Value) and meaning.kind == "vector"
        if vector or isinstance(meaning, _Unread):
            return meaning
        return _Unread("it gives a map, not a vector of logits")

    # Modules

    def _of_module(self, node: fx.Node) -> _Meaning:
        name = str(node.target)
        part = self._module.get_submodule(name)
        value = self._value(node.args[0] if node.args else None, f"module '{name}'")
        if type(part) in PASSED_ON:
            return value
        if type(part) not in MODULES:
            raise Unreadable(f"module '{name}' ({type(part).__name__}) is unknown")
        try:
            operation = MODULES[type(part)](part)
        except Unreadable as problem:
            raise Unreadable(f"module '{name}' ({type(part).__name__}) {problem}") from problem
        if operation.parameters:
            self._refuse_second_use(name)
        read = self._read(name, operation, value)
        if getattr(part, "inplace", False):
            self._overwritten(value, read)
        return read

    # Calls of functions and methods

    def _of_call(self, node: fx.Node) -> _Meaning:
        call = call_name(node.target)
        special = _SPECIAL.get(call)
        if special is not None:
            return special(self, node)
        if call in PASSED_ON_CALLS:
            return self._operand(node, node.args[0])
        self._refuse_unread(node)
        name = f"the operation {self._said(node)}"
        try:
            operation = called(node)
        except Unreadable as problem:
            raise Unreadable(f"{name} {problem}") from problem
        if operation is None:
            raise Unreadable(f"{name} is unknown")
        return self._computed(node, operation, call, node.args[:1])

    def _computed(
        self, node: fx.Node, operation: Operation, call: str, operands: Iterable[Any]
    ) -> _Value:
        """The layer of a call, which may overwrite its first operand."""
        values = [self._operand(node, one) for one in operands]
        if len({value.kind for value in values}) > 1:
            self._refuse(node, "reads maps and vectors")
        read = self._read(self._name(node, call), operation, *values)
        if in_place(node):
            self._overwritten(values[0], read)
        return read

    def _sum(self, node: fx.Node) -> _Meaning:
        alpha: Any = node.kwargs.get("alpha", 1)
        if numbers := self._numbers(node):
            return self._rescaled(node, 1.0, numbers[0] * alpha)
        if alpha != 1:
            self._refuse(node, "has an alpha")
        return self._computed(node, Add(), "add", node.args[:2])

    def _difference(self, node: fx.Node) -> _Meaning:
        numbers = self._numbers(node)
        if not numbers or node.kwargs.get("alpha", 1) != 1:
            self._refuse(node, "is of two maps")
        reverse = not isinstance(node.args[0], fx.Node) or call_name(node.target) == "rsub"
        number = numbers[0]
        return self._rescaled(node, -1.0, number) if reverse else self._rescaled(node, 1.0, -number)

    def _quotient(self, node: fx.Node) -> _Meaning:
        numbers = self._numbers(node)
        if not numbers or not isinstance(node.args[0], fx.Node) or numbers[0] == 0:
            self._refuse(node, "is not by a number")
        return self._rescaled(node, 1.0 / numbers[0], 0.0)

    def _negative(self, node: fx.Node) -> _Meaning:
        return self._rescaled(node, -1.0, 0.0)

    def _numbers(self, node: fx.Node) -> list[float]:
        """The plain numbers among a call's first two arguments."""
        return [
            float(one)
            for one in (*node.args[:2], node.kwargs.get("other"))
            if isinstance(one, int | float) and not isinstance(one, bool)
        ]

    def _rescaled(self, node: fx.Node, factor: float, offset: float) -> _Meaning:
        (given, *_) = (one for one in node.args if isinstance(one, fx.Node))
        return self._computed(node, Rescale(factor, offset), call_name(node.target), [given])

    def _product(self, node: fx.Node) -> _Meaning:
        if numbers := self._numbers(node):
            return self._rescaled(node, numbers[0], 0.0)
        operands = {one: self._meanings[one] for one in node.args[:2] if isinstance(one, fx.Node)}
        held = next((one for one in operands.values() if isinstance(one, _Parameter)), None)
        if held is None:
            return self._computed(node, Product(), "mul", node.args[:2])
        other = next((node for node, one in operands.items() if one is not held), None)
        value = self._value(other, f"'{held.name}'")
        shape = held.shape(self._module)
        behind = {"map": (1, 1), "channels last": (), "vector": (0,)}[value.kind]
        before = shape[: len(shape) - len(behind)]
        fits = shape[len(before) :] == behind and before and not set(before[:-1]) - {1}
        if not fits or len(shape) > 4:
            raise Unreadable(f"'{held.name}' is not one factor per channel")
        return self._read(held.name, Scale(before[-1]), value)

    def _concatenation(self, node: fx.Node) -> _Meaning:
        given = arguments(node, ("tensors", "dim"))
        tensors = given["tensors"]
        if not isinstance(tensors, Sequence):
            self._refuse(node, "does not read a list of maps")
        kinds = {self._operand(node, one).kind for one in tensors}
        last = kinds == {"channels last"}
        places = (3, -1) if last else (1, -3) if kinds == {"map"} else (1, -1)
        if given.get("dim", 0) not in places:
            self._refuse(node, "joins maps side by side")
        return self._computed(node, Concatenate(), "cat", tensors)

    def _flattened(self, node: fx.Node) -> _Meaning:
        first = node.args[0]
        if isinstance(first, fx.Node) and isinstance(self._meanings[first], _Grouped):
            return self._reshaped(node)
        given = arguments(node, ("input", "start_dim", "end_dim"))
        if (given.get("start_dim", 0), given.get("end_dim", -1)) not in ((1, -1), (1, 3)):
            self._refuse(node, "does not make vectors of maps")
        return self._vector(node, self._operand(node, first))

    def _vector(self, node: fx.Node, value: _Value) -> _Meaning:
        if value.kind == "vector":
            return value
        if value.kind == "channels last":
            self._refuse(node, "reads channels that come last")
        return self._read(self._name(node, "flatten"), Flatten(), value)

    def _reshaped(self, node: fx.Node) -> _Meaning:
        sizes = node.args[1:]
        if len(sizes) == 1 and isinstance(sizes[0], Sequence):
            sizes = tuple(sizes[0])
        before = self._meanings[node.args[0]]  # type: ignore[index]
        if isinstance(before, _Parameter):
            return replace(before, sizes=tuple(one for one in sizes if isinstance(one, int)))
        if isinstance(before, _Grouped):
            if not before.transposed:
                return before.whole
            name = self._name(node, "channel_shuffle")
            return self._read(name, ChannelShuffle(before.groups), before.whole)
        value = self._operand(node, node.args[0])
        match sizes:
            case (_, _):
                return self._vector(node, value)
            case (_, int(groups), _, _, _) if value.kind == "map" and groups > 0:
                return _Grouped(value, groups)
            case _:
                raise Unreadable(f"this {self._said(node)} is unknown")

    def _transposed(self, node: fx.Node) -> _Meaning:
        before = self._meanings[node.args[0]]  # type: ignore[index]
        if isinstance(before, _Grouped) and set(node.args[1:]) == {1, 2}:
            return replace(before, transposed=not before.transposed)
        self._refuse_unread(node)
        raise Unreadable(f"nothing is known of this {self._said(node)}")

    def _contiguous(self, node: fx.Node) -> _Meaning:
        return self._meanings[node.args[0]]  # type: ignore[index]

    def _permuted(self, node: fx.Node) -> _Meaning:
        value = self._operand(node, node.args[0])
        order = node.args[1:] or (node.kwargs.get("dims"),)
        if len(order) == 1:
            order = tuple(order[0])  # type: ignore[arg-type]
        if (order, value.kind) not in ((_TO_LAST, "map"), (_TO_FIRST, "channels last")):
            self._refuse(node, "moves more than the channels")
        return replace(value, kind="channels last" if order == _TO_LAST else "map")

    def _mean(self, node: fx.Node) -> _Meaning:
        given = arguments(node, ("input", "dim", "keepdim"))
        value = self._operand(node, given["input"])
        dims = given.get("dim")
        over = {one % 4 for one in dims} if isinstance(dims, Sequence) else set()
        if not over or over != _SPATIAL[value.kind]:
            self._refuse(node, "is not over a whole map")
        operation = AdaptiveAveragePool() if given.get("keepdim") else GlobalAveragePool()
        return self._read(self._name(node, "mean"), operation, value)

    def _chunks(self, node: fx.Node) -> _Meaning:
        given = arguments(node, ("input", "chunks", "dim"))
        return _Parts(self._cut(node, given["input"], given.get("dim", 0)), int(given["chunks"]))

    def _split(self, node: fx.Node) -> _Meaning:
        size = "split_size_or_sections" if node.op == "call_function" else "split_size"
        given = arguments(node, ("tensor", size, "dim"))
        value, sizes = self._cut(node, given["tensor"], given.get("dim", 0)), given[size]
        if isinstance(sizes, int):
            return _Parts(value, 0, sizes)
        if not all(isinstance(one, int) for one in sizes):
            self._refuse(node, "has sizes that it computes")
        return _Parts(value, tuple(sizes))

    def _cut(self, node: fx.Node, given: Any, dim: int) -> _Value:
        """The map whose channels a call cuts into parts."""
        value = self._operand(node, given)
        if value.kind != "map" or dim not in (1, -3):
            self._refuse(node, "does not cut channels")
        return value

    def _item(self, node: fx.Node) -> _Meaning:
        before = self._meanings[node.args[0]]  # type: ignore[index]
        index = node.args[1]
        if isinstance(before, _Parts) and isinstance(index, int):
            return self._read(self._name(node, "chunk"), before.part(index), before.whole)
        channels = _slice_of_channels(index)
        if isinstance(before, _Value) and before.kind == "map" and channels is not None:
            return self._read(self._name(node, "slice"), ChannelSlice(*channels), before)
        self._refuse_unread(node)
        raise Unreadable(f"this indexing in {self._owner(node)} is unknown")

    def _layer_norm(self, node: fx.Node) -> _Meaning:
        given = arguments(node, ("input", "normalized_shape", "weight", "bias", "eps"))
        value = self._operand(node, given["input"])
        shape = given["normalized_shape"]
        owner = self._holder(given, ("weight", "bias"))
        if not owner or len(shape) != 1:
            self._refuse(node, "is not over channels with its own weight and bias")
        return self._read(owner, ChannelNorm(int(shape[0]), float(given.get("eps", 1e-5))), value)

    def _batch_norm(self, node: fx.Node) -> _Meaning:
        held = ("running_mean", "running_var", "weight", "bias")
        given = arguments(node, ("input", *held, "training", "momentum", "eps"))
        owner = self._holder(given, held)
        part = self._module.get_submodule(owner) if owner else None
        if not isinstance(part, nn.BatchNorm2d):
            self._refuse(node, "is not that of a BatchNorm2d")
        return self._held(owner, MODULES[nn.BatchNorm2d](part), self._operand(node, given["input"]))

    def _linear(self, node: fx.Node) -> _Meaning:
        given = arguments(node, ("input", "weight", "bias"))
        owner = self._holder(given, tuple(name for name in ("weight", "bias") if name in given))
        if not owner:
            self._refuse(node, "does not have its own weight")
        outputs, inputs = operator.attrgetter(f"{owner}.weight")(self._module).shape
        operation = Linear(int(inputs), int(outputs), "bias" in given)
        return self._held(owner, operation, self._operand(node, given["input"]))

    def _holder(self, given: Mapping[str, Any], names: Sequence[str]) -> str:
        """The module whose attributes of these names a call is given; empty if there is none."""
        meanings = [
            self._meanings[one] if isinstance(one, fx.Node) else None
            for one in map(given.get, names)
        ]
        paths = [one.name if isinstance(one, _Parameter) else "" for one in meanings]
        owner = paths[0].rpartition(".")[0]
        return owner if paths == [f"{owner}.{name}" for name in names] else ""

    def _held(self, owner: str, operation: Operation, value: _Value) -> _Value:
        """A function of a module's parameters, as that module's layer."""
        self._refuse_second_use(owner)
        return self._read(owner, operation, value)

    def _refuse_second_use(self, name: str) -> None:
        if name in self._names:
            kind = type(self._module.get_submodule(name)).__name__
            raise Unreadable(
                f"module '{name}' ({kind}) is used twice, but each layer must have its own weights"
            )

    # What all share

    def _read(self, name: str, operation: Operation, *values: _Value) -> _Value:
        """Adds a layer; returns its output."""
        kind = values[0].kind
        match operation:
            case Linear() if kind == "channels last":
                operation = ChannelLinear(
                    operation.in_features, operation.out_features, operation.bias
                )
            case Linear() if kind == "map":
                raise Unreadable(f"module '{name}' (Linear) reads the width of a map")
            case ChannelNorm() if kind == "map" and self._is_layer_norm(name):
                raise Unreadable(f"module '{name}' (LayerNorm) reads the width of a map")
            case Flatten() | GlobalAveragePool():
                kind = "vector"
            case VectorBatchNorm() if kind != "vector":
                raise Unreadable(f"module '{name}' (BatchNorm1d) does not read a vector")
            case _ if kind != "map" and operation.reach(0, 1) != operation.reach(0, 2):
                raise Unreadable(f"'{name}' does not read a map")
        unique = self._unique(name)
        self.layers.append(Layer(unique, operation, tuple(value.layer for value in values)))
        return _Value(unique, kind)

    def _is_layer_norm(self, name: str) -> bool:
        return name in self._taken and type(self._module.get_submodule(name)) is nn.LayerNorm

    def _value(self, given: Any, reader: str) -> _Value:
        if not isinstance(given, fx.Node):
            raise Unreadable(f"{reader} reads {given!r}, which is not a map")
        meaning = self._meanings[given]
        if isinstance(meaning, _Unread):
            raise Unreadable(meaning.reason)
        if not isinstance(meaning, _Value):
            raise Unreadable(f"{reader} reads something that is not a map")
        return meaning

    def _operand(self, node: fx.Node, given: Any) -> _Value:
        return self._value(given, self._said(node))

    def _said(self, node: fx.Node) -> str:
        """The name of a call in messages."""
        return f"'{call_name(node.target)}' in {self._owner(node)}"

    def _refuse(self, node: fx.Node, problem: str) -> NoReturn:
        """Refuses a call, with words that follow its name."""
        self._refuse_unread(node)
        raise Unreadable(f"{self._said(node)} {problem}")

    def _refuse_unread(self, node: fx.Node) -> None:
        """Raises the reason of an input that could not be read: the first problem helps most."""
        for before in node.all_input_nodes:
            meaning = self._meanings[before]
            if isinstance(meaning, _Unread):
                raise Unreadable(meaning.reason)

    def _overwritten(self, before: _Value, after: _Value) -> None:
        """After a change in place, later reads of the tensor mean the new layer."""
        for node, meaning in self._meanings.items():
            if isinstance(meaning, _Value) and meaning.layer == before.layer:
                self._meanings[node] = replace(meaning, layer=after.layer)

    def _owner(self, node: fx.Node) -> str:
        path = self._owner_path(node)
        if not path:
            return f"the network ({type(self._module).__name__})"
        return f"module '{path}' ({type(self._module.get_submodule(path)).__name__})"

    def _owner_path(self, node: fx.Node) -> str:
        stack = node.meta.get("nn_module_stack") or {}
        paths = [path for path, _ in stack.values()]
        return str(paths[-1]) if paths else ""

    def _name(self, node: fx.Node, call: str) -> str:
        path = self._owner_path(node)
        name = f"{path}.{call}" if path else call
        return self._numbered(name) if name in self._taken else name

    def _unique(self, name: str) -> str:
        unique = self._numbered(name) if name in self._names else name
        self._names.add(unique)
        return unique

    def _numbered(self, name: str) -> str:
        number = 1
        while f"{name}_{number}" in self._names | self._taken:
            number += 1
        return f"{name}_{number}"


_SPECIAL: Mapping[str, Callable[[_Reader, fx.Node], _Meaning]] = {
    **dict.fromkeys(("add", "iadd"), _Reader._sum),
    **dict.fromkeys(("mul", "imul", "multiply"), _Reader._product),
    **dict.fromkeys(("sub", "isub", "rsub", "subtract"), _Reader._difference),
    **dict.fromkeys(("truediv", "itruediv", "div", "divide"), _Reader._quotient),
    **dict.fromkeys(("neg", "negative"), _Reader._negative),
    **dict.fromkeys(("cat", "concat", "concatenate"), _Reader._concatenation),
    "flatten": _Reader._flattened,
    **dict.fromkeys(("view", "reshape"), _Reader._reshaped),
    "transpose": _Reader._transposed,
    "contiguous": _Reader._contiguous,
    "permute": _Reader._permuted,
    "mean": _Reader._mean,
    "chunk": _Reader._chunks,
    "getitem": _Reader._item,
    **dict.fromkeys(("split", "split_with_sizes"), _Reader._split),
    "layer_norm": _Reader._layer_norm,
    "batch_norm": _Reader._batch_norm,
    "linear": _Reader._linear,
}
"""Calls that are read by their own method."""


def _slice_of_channels(index: Any) -> tuple[int, int] | None:
    """Start and stop of an index such as `x[:, start:stop]`; None for any other index."""
    match index:
        case (slice(start=None, stop=None, step=None), slice() as taken, *rest) if all(
            one in (slice(None), Ellipsis) for one in rest
        ):
            pass
        case _:
            return None
    start, stop = taken.start or 0, taken.stop
    plain = isinstance(start, int) and isinstance(stop, int) and taken.step in (None, 1)
    return (start, stop) if plain and 0 <= start < stop else None


def _needed(layers: Sequence[Layer], output: str) -> list[Layer]:
    """The layers that the output depends on."""
    needed = {output}
    kept = []
    for layer in reversed(layers):
        if layer.name in needed:
            needed.update(layer.inputs)
            kept.append(layer)
    return kept[::-1]


def _pools_that_flatten(layers: Sequence[Layer]) -> tuple[Layer, ...]:
    """The layers, with a pool to 1×1 and the flattening after it as one operation."""
    by_name = {layer.name: layer for layer in layers}
    read = [source for layer in layers for source in layer.inputs]
    merged = {
        layer.name: layer.inputs[0]
        for layer in layers
        if isinstance(layer.operation, Flatten)
        and layer.inputs[0] in by_name
        and by_name[layer.inputs[0]].operation == AdaptiveAveragePool()
        and read.count(layer.inputs[0]) == 1
    }
    pools = set(merged.values())
    return tuple(
        Layer(
            layer.name,
            GlobalAveragePool() if layer.name in pools else layer.operation,
            tuple(merged.get(source, source) for source in layer.inputs),
        )
        for layer in layers
        if layer.name not in merged
    )
