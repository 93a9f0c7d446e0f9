"""Reads a torch module into a description, with `torch.fx`.

The module is traced symbolically, in training mode, without an image. Layers keep the module's
names, and so do parameters. The meaning of calls is in `rfray.models.vocabulary`. A part that
cannot be read is refused only if the output depends on it.
"""

import operator
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any, Literal, NoReturn

import torch
from torch import fx, nn

from rfray.errors import UserError
from rfray.models import operations as ops
from rfray.models.network import INPUT, Layer, needed
from rfray.models.vocabulary import (
    MODULES,
    Unreadable,
    arguments,
    call_name,
    called,
    in_place,
    operation_of,
)
from rfray.plugins.user_code import in_a_line

Kind = Literal["map", "channels last", "vector"]

_TO_LAST, _TO_FIRST = (0, 2, 3, 1), (0, 3, 1, 2)
_SPATIAL: Mapping[Kind, set[int]] = {"map": {2, 3}, "channels last": {1, 2}, "vector": set()}


@dataclass(frozen=True)
class _Value:
    """The output of a layer, as the module sees it; in the description channels come first."""

    layer: str
    kind: Kind = "map"


@dataclass(frozen=True)
class _Parts:
    """A map's channels in parts, and the operation that gives the part with an index."""

    whole: _Value
    part: Callable[[int], ops.Operation]


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
    try:
        logits = reader.logits(graph)
    except Unreadable as problem:
        reason = _attention(module) or problem
        raise UserError(f"cannot be read: {reason}", where=where) from problem
    layers = _pools_that_flatten(needed(reader.layers, logits.layer))
    if not any(isinstance(layer.operation, ops.Convolution) for layer in layers):
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
        return type(m) in MODULES or super().is_leaf_module(m, module_qualified_name)

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
    """Reads a graph node by node; `layers` are those read so far."""

    def __init__(self, module: nn.Module) -> None:
        self.layers: list[Layer] = []
        self._module = module
        self._taken = {name for name, _ in module.named_modules()}
        self._meanings: dict[fx.Node, _Meaning] = {}
        self._names: set[str] = set()

    def logits(self, graph: fx.Graph) -> _Value:
        """Read all nodes; returns the output of the graph, Unreadable if it is not logits."""
        *nodes, output = graph.nodes
        for node in nodes:
            try:
                self._meanings[node] = self._meaning(node)
            except Unreadable as problem:
                self._meanings[node] = _Unread(str(problem))
        given = output.args[0]
        if not isinstance(given, fx.Node):
            raise Unreadable(f"it gives a {type(given).__name__}, not one tensor of logits")
        self._refuse_unread([given])
        meaning = self._meanings[given]
        if not isinstance(meaning, _Value) or meaning.kind != "vector":
            raise Unreadable("it gives a map, not a vector of logits")
        return meaning

    def _meaning(self, node: fx.Node) -> _Meaning:
        match node.op:
            case "placeholder" if not self._meanings:
                return _Value(INPUT)
            case "placeholder":
                raise Unreadable(f"its input '{node.name}' is not the image")
            case "get_attr":
                return _Parameter(str(node.target))
            case "call_module":
                return self._of_module(node)
            case _:
                return self._of_call(node)

    # Modules

    def _of_module(self, node: fx.Node) -> _Meaning:
        name = str(node.target)
        part = self._module.get_submodule(name)
        self._refuse_unread(node.all_input_nodes)
        value = self._value(node.args[0] if node.args else None, f"module '{name}'")
        if type(part) is nn.Identity:
            return value
        try:
            operation = operation_of(part)
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
        # The sizes of a new shape may be anything.
        sizes = call in ("view", "reshape")
        self._refuse_unread(node.all_input_nodes[:1] if sizes else node.all_input_nodes)
        if call in _SPECIAL:
            return _SPECIAL[call](self, node)
        try:
            operation = called(node)
        except Unreadable as problem:
            raise Unreadable(f"the operation {self._said(node)} {problem}") from problem
        return self._computed(node, call, operation, *node.args[:1])

    def _computed(
        self, node: fx.Node, call: str, operation: ops.Operation, *operands: Any
    ) -> _Value:
        """The layer of a call, which reads maps or reads vectors."""
        values = [self._operand(node, one) for one in operands]
        if len({value.kind for value in values}) > 1:
            self._refuse(node, "reads maps and vectors")
        return self._layer(node, call, operation, *values)

    def _sum(self, node: fx.Node) -> _Meaning:
        alpha: Any = node.kwargs.get("alpha", 1)
        if numbers := self._numbers(node):
            return self._rescaled(node, 1.0, numbers[0] * alpha)
        if alpha != 1:
            self._refuse(node, "has an alpha")
        return self._computed(node, "add", ops.Add(), *node.args[:2])

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
        return self._computed(node, call_name(node.target), ops.Rescale(factor, offset), given)

    def _product(self, node: fx.Node) -> _Meaning:
        if numbers := self._numbers(node):
            return self._rescaled(node, numbers[0], 0.0)
        operands = {one: self._meanings[one] for one in node.args[:2] if isinstance(one, fx.Node)}
        held = next((one for one in operands.values() if isinstance(one, _Parameter)), None)
        if held is None:
            return self._computed(node, "mul", ops.Product(), *node.args[:2])
        other = next((node for node, one in operands.items() if one is not held), None)
        value = self._value(other, f"'{held.name}'")
        parameter = operator.attrgetter(held.name)(self._module)
        shape = tuple((parameter.reshape(held.sizes) if held.sizes else parameter).shape)
        behind = {"map": (1, 1), "channels last": (), "vector": (0,)}[value.kind]
        before = shape[: len(shape) - len(behind)]
        fits = shape[len(before) :] == behind and before and not set(before[:-1]) - {1}
        if not fits or len(shape) > 4:
            raise Unreadable(f"'{held.name}' is not one factor per channel")
        return self._read(held.name, ops.Scale(before[-1]), value)

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
        return self._computed(node, "cat", ops.Concatenate(), *tensors)

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
        return self._layer(node, "flatten", ops.Flatten(), value)

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
            shuffle = ops.ChannelShuffle(before.groups)
            return self._layer(node, "channel_shuffle", shuffle, before.whole)
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
        raise Unreadable(f"nothing is known of this {self._said(node)}")

    def _same(self, node: fx.Node) -> _Meaning:
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
        operation = ops.AdaptiveAveragePool() if given.get("keepdim") else ops.GlobalAveragePool()
        return self._layer(node, "mean", operation, value)

    def _chunks(self, node: fx.Node) -> _Meaning:
        given = arguments(node, ("input", "chunks", "dim"))
        count = int(given["chunks"])
        value = self._cut(node, given["input"], given.get("dim", 0))
        return _Parts(value, lambda index: ops.ChannelChunk(index % count, count))

    def _split(self, node: fx.Node) -> _Meaning:
        size = "split_size_or_sections" if node.op == "call_function" else "split_size"
        given = arguments(node, ("tensor", size, "dim"))
        value, sizes = self._cut(node, given["tensor"], given.get("dim", 0)), given[size]
        if isinstance(sizes, int):
            return _Parts(value, partial(_part_of_size, sizes))
        if not all(isinstance(one, int) for one in sizes):
            self._refuse(node, "has sizes that it computes")
        slices = [ops.ChannelSlice(*ends) for ends in pairwise(accumulate(sizes, initial=0))]
        return _Parts(value, slices.__getitem__)

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
            return self._layer(node, "chunk", before.part(index), before.whole)
        channels = _slice_of_channels(index)
        if isinstance(before, _Value) and before.kind == "map" and channels is not None:
            return self._layer(node, "slice", ops.ChannelSlice(*channels), before)
        raise Unreadable(f"this indexing in {self._owner(node)} is unknown")

    def _layer_norm(self, node: fx.Node) -> _Meaning:
        given = arguments(node, ("input", "normalized_shape", "weight", "bias", "eps"))
        value = self._operand(node, given["input"])
        shape = given["normalized_shape"]
        owner = self._holder(given, ("weight", "bias"))
        if not owner or len(shape) != 1:
            self._refuse(node, "is not over channels with its own weight and bias")
        return self._read(
            owner, ops.ChannelNorm(int(shape[0]), float(given.get("eps", 1e-5))), value
        )

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
        operation = ops.Linear(int(inputs), int(outputs), "bias" in given)
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

    def _held(self, owner: str, operation: ops.Operation, value: _Value) -> _Value:
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

    def _read(self, name: str, operation: ops.Operation, *values: _Value) -> _Value:
        """Adds a layer; returns its output."""
        kind = values[0].kind
        match operation:
            case ops.Linear() if kind == "channels last":
                operation = ops.ChannelLinear(
                    operation.in_features, operation.out_features, operation.bias
                )
            case ops.Linear() if kind == "map":
                raise Unreadable(f"module '{name}' (Linear) reads the width of a map")
            case ops.ChannelNorm() if kind == "map" and self._is_layer_norm(name):
                raise Unreadable(f"module '{name}' (LayerNorm) reads the width of a map")
            case ops.Flatten() | ops.GlobalAveragePool():
                kind = "vector"
            case ops.VectorBatchNorm() if kind != "vector":
                raise Unreadable(f"module '{name}' (BatchNorm1d) does not read a vector")
            case _ if kind != "map" and operation.reach(0, 1) != operation.reach(0, 2):
                raise Unreadable(f"'{name}' does not read a map")
        unique = self._numbered(name) if name in self._names else name
        self._names.add(unique)
        self.layers.append(Layer(unique, operation, tuple(value.layer for value in values)))
        return _Value(unique, kind)

    def _layer(self, node: fx.Node, call: str, operation: ops.Operation, *values: _Value) -> _Value:
        """Adds the layer of a call, which may overwrite its first operand."""
        path = self._owner_path(node)
        name = f"{path}.{call}" if path else call
        name = self._numbered(name) if name in self._taken else name
        read = self._read(name, operation, *values)
        if in_place(node):
            self._overwritten(values[0], read)
        return read

    def _is_layer_norm(self, name: str) -> bool:
        return name in self._taken and type(self._module.get_submodule(name)) is nn.LayerNorm

    def _value(self, given: Any, reader: str) -> _Value:
        if not isinstance(given, fx.Node):
            raise Unreadable(f"{reader} reads {given!r}, which is not a map")
        meaning = self._meanings[given]
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
        raise Unreadable(f"{self._said(node)} {problem}")

    def _refuse_unread(self, nodes: Sequence[fx.Node]) -> None:
        """Raises the reason of an input that could not be read: the first problem helps most."""
        for before in nodes:
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
    **dict.fromkeys(("contiguous", "clone"), _Reader._same),
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
        case (slice(start=None, stop=None, step=None), slice() as taken, *rest):
            whole = all(one in (slice(None), Ellipsis) for one in rest)
        case _:
            return None
    start, stop = taken.start or 0, taken.stop
    plain = isinstance(start, int) and isinstance(stop, int) and taken.step in (None, 1)
    return (start, stop) if whole and plain and 0 <= start < stop else None


def _part_of_size(size: int, index: int) -> ops.Operation:
    if index < 0:
        raise Unreadable("counts parts from the last")
    return ops.ChannelSlice(index * size, (index + 1) * size)


def _pools_that_flatten(layers: Sequence[Layer]) -> tuple[Layer, ...]:
    """The layers, with a pool to 1×1 and the flattening after it as one operation."""
    by_name = {layer.name: layer for layer in layers}
    read = [source for layer in layers for source in layer.inputs]
    merged = {
        layer.name: layer.inputs[0]
        for layer in layers
        if isinstance(layer.operation, ops.Flatten)
        and layer.inputs[0] in by_name
        and by_name[layer.inputs[0]].operation == ops.AdaptiveAveragePool()
        and read.count(layer.inputs[0]) == 1
    }
    pools = set(merged.values())
    return tuple(
        replace(
            layer,
            operation=ops.GlobalAveragePool() if layer.name in pools else layer.operation,
            inputs=tuple(merged.get(source, source) for source in layer.inputs),
        )
        for layer in layers
        if layer.name not in merged
    )
