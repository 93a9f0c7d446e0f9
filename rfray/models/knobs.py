"""Knobs: ways of changing a network's receptive field, each a pure function of a network.

A knob makes a network from a network and a strength, a whole number in the knob's own unit. At one
strength, the lowest or the network's own, it returns the network itself.

- `pool`: kernel of the max-pool after the stem, with stride kernel - 1; 1 is no pool. Does not
  change the parameters.
- `stride`: factor of the first convolution's stride. Does not change the parameters.
- `dilation`: factor of the dilation of chosen convolutions, whose padding grows with it. Changes
  neither parameters nor map sizes.
- `convolution`: kernel of the first convolution, whose padding grows with it. Does not change map
  sizes.
- `dilated_pool`: dilation of a 3×3 max-pool of stride 1 after the stem; 0 is no pool. Changes
  neither parameters nor map sizes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from rfray.errors import UserError, nearest
from rfray.models.network import Layer, Network, Origin
from rfray.models.operations import AXES, Convolution, MaxPool, along, extent
from rfray.models.stem import NO_POOL, POOL_NAME, pool_place, with_pool
from rfray.plugins import Shelf

if TYPE_CHECKING:
    from torch import Tensor

POOL = "pool"
"""The default knob of a study: the paper's."""

DILATION = "dilation"
"""The knob that turns chosen convolutions."""

Patterns = Sequence[str]
"""Names of layers, or of parts of the network (`stage3`), or patterns such as `*_conv2`."""


@dataclass(frozen=True)
class Knob:
    """A way of changing a receptive field.

    Attributes:
        turn: Makes the network at a strength. The patterns choose layers, if the knob turns chosen
            layers; otherwise they are ignored.
        strengths: For a network and the size of its images, in pixels, the useful strengths: with
            a higher one the receptive field would only extend further outside the image.
        unit: The unit of the strength, in words.
    """

    turn: Callable[[Network, int, Patterns], Network]
    strengths: Callable[[Network, int], range]
    unit: str


def turned(name: str, network: Network, strength: int, layers: Patterns = ()) -> Network:
    """`network` with the knob `name` at a strength.

    Args:
        name: One of `KNOBS`, or a knob of a plugin.
        network: Any network; for `pool`, one without the pool.
        strength: In the knob's own unit.
        layers: The layers that `dilation` turns; if empty, all convolutions larger than 1×1 except
            the first.

    Raises:
        UserError: There is no such knob, or this strength or these layers are not possible.
    """
    code = knob_code(name)
    if not code:
        return knob(name).turn(network, strength, layers)
    plugin = OUTSIDE.plugins()[name]
    with plugin.telling(f"turn(network, {strength}, {list(layers)})"):
        changed = knob(name).turn(network, strength, layers)
    if not isinstance(changed, Network):
        raise plugin.refused(f"turn gives a {type(changed).__name__}, not a Network")
    if changed.layers == network.layers:
        return network
    own = changed.origin or Origin("", None)
    return replace(changed, origin=replace(own, code="-".join(filter(None, (own.code, code)))))


def knob(name: str) -> Knob:
    """The knob called `name`; UserError with the nearest name if there is none."""
    problem = knob_problem(name)
    if problem is not None:
        raise UserError(problem, where="axes.knob")
    return KNOBS[name] if name in KNOBS else OUTSIDE.get(name)


def knob_problem(name: str) -> str | None:
    """What is wrong with a knob's name, and what to do about it; None if nothing is."""
    known = (*KNOBS, *OUTSIDE.plugins())
    return None if name in known else f"no knob is called '{name}' ({nearest(name, known)})"


def knob_code(name: str) -> str:
    """Digest of the code of a plugin's knob, which is part of keys; empty for rfray's own."""
    return OUTSIDE.code(name)


def chosen_convolutions(network: Network, layers: Patterns) -> tuple[Layer, ...]:
    """The convolutions that `dilation` turns: those that match a pattern.

    Without patterns, all after the first whose kernel is larger than 1×1.

    Raises:
        UserError: There are patterns, and none of them matches a convolution of the network.
    """
    if not layers:
        return tuple(layer for layer in network.convolutions[1:] if _grows(layer))
    chosen = tuple(
        layer for layer in network.convolutions if any(_names(one, layer.name) for one in layers)
    )
    if not chosen:
        raise UserError(
            f"'{layers[0]}' matches no convolution of the network",
            where="knobs.dilation.layers",
            do=_advice(layers[0], [network]),
        )
    return chosen


def naming_nothing(layers: Patterns, networks: Sequence[Network]) -> str | None:
    """The first pattern that matches no convolution of any network, with the nearest name."""
    names = [layer.name for network in networks for layer in network.convolutions]
    for pattern in layers:
        if not any(_names(pattern, name) for name in names):
            return f"'{pattern}' matches no convolution ({_advice(pattern, networks)})"
    return None


def _names(pattern: str, name: str) -> bool:
    """Whether a pattern matches a layer's name, or that of a part of the network with the layer."""
    return fnmatchcase(name, pattern) or any(name.startswith(f"{pattern}{end}") for end in "._")


def _advice(pattern: str, networks: Sequence[Network]) -> str:
    """The nearest name, or the outermost names if none is near."""
    known = {name for network in networks for name in _nameable(network)}
    near = nearest(pattern, known)
    outermost = {name for name in known if not any(_names(one, name) for one in known - {name})}
    return near if near.startswith("did") else nearest(pattern, outermost)


def _nameable(network: Network) -> set[str]:
    """The names of the convolutions and of the parts that contain them."""
    found = set()
    for layer in network.convolutions:
        found.add(layer.name)
        found |= {layer.name[:at] for at, sign in enumerate(layer.name) if at and sign in "._"}
    return found


def _grows(layer: Layer) -> bool:
    """Whether dilation moves the taps of a convolution apart, symmetrically around its centre."""
    taps = [along(_convolution(layer).kernel_size, axis) for axis in AXES]
    return any(count > 1 for count in taps) and all(count % 2 for count in taps)


def _convolution(layer: Layer) -> Convolution:
    assert isinstance(layer.operation, Convolution)  # noqa: S101 (network.convolutions are)
    return layer.operation


def _first(network: Network) -> Layer:
    return network.convolutions[0]


def _refuse_below(least: int, name: str, strength: int) -> None:
    if strength < least:
        raise UserError(
            f"the knob '{name}' has strength {strength}, but it must be at least {least}",
            where="axes.strength",
        )


# pool


def _pool(network: Network, strength: int, _layers: Patterns) -> Network:
    _refuse_below(NO_POOL, POOL, strength)
    return with_pool(network, strength)


# stride


def _stride(network: Network, strength: int, _layers: Patterns) -> Network:
    _refuse_below(1, "stride", strength)
    first = _first(network)
    own = _convolution(first)
    strides = (along(own.stride, axis) * strength for axis in AXES)
    return network.with_operations({first.name: replace(own, stride=extent(*strides))})


# dilation


def _dilation(network: Network, strength: int, layers: Patterns) -> Network:
    _refuse_below(1, DILATION, strength)
    chosen = chosen_convolutions(network, layers)
    return network.with_operations({layer.name: _dilated(layer, strength) for layer in chosen})


def _dilated(layer: Layer, strength: int) -> Convolution:
    """The convolution with its taps `strength` times as far apart and the same map size."""
    own = _convolution(layer)
    padding = []
    for axis in AXES:
        wider = along(own.dilation, axis) * (strength - 1) * (along(own.kernel_size, axis) - 1)
        if wider % 2:
            raise UserError(
                f"'{layer.name}' has an even kernel, which cannot be dilated {strength} times "
                "with the same map size",
                where="knobs.dilation.layers",
                do="choose other layers, or odd strengths",
            )
        padding.append(along(own.padding, axis) + wider // 2)
    dilation = (along(own.dilation, axis) * strength for axis in AXES)
    return replace(own, dilation=extent(*dilation), padding=extent(*padding))


# convolution


def _kernel(network: Network, strength: int, _layers: Patterns) -> Network:
    possible = _kernels(network, strength + 1)
    if strength not in possible:
        raise UserError(
            f"the knob 'convolution' has strength {strength}, but the first convolution keeps its "
            f"map size at {possible.start}, {possible.start + 2}, {possible.start + 4} and so on",
            where="axes.strength",
        )
    first = _first(network)
    own = _convolution(first)
    larger = replace(
        own, kernel_size=strength, padding=extent(*(_padding(own, strength, a) for a in AXES))
    )
    if larger == own:
        return network
    changed = network.with_operations({first.name: larger})
    return replace(changed, origin=_redrawn(network.origin, first.name, larger))


def _padding(own: Convolution, kernel: int, axis: int) -> int:
    """The padding with which a convolution of another kernel keeps its map size."""
    more = kernel - along(own.kernel_size, axis)
    return along(own.padding, axis) + along(own.dilation, axis) * more // 2


def _kernels(network: Network, stop: int) -> range:
    """The square kernels, below `stop`, with which the first convolution keeps its map size."""
    own = _convolution(_first(network))
    sizes = [along(own.kernel_size, axis) for axis in AXES]
    if (sizes[0] - sizes[1]) % 2:
        raise UserError(
            f"the first convolution is {sizes[0]}×{sizes[1]}: no square kernel keeps its map size",
            where="axes.knob",
            do="leave the knob 'convolution' out for it",
        )
    least = next(
        size
        for size in range(2 - sizes[0] % 2, max(sizes) + 2, 2)
        if all(_padding(own, size, axis) >= 0 for axis in AXES)
    )
    return range(least, stop, 2)


def _redrawn(origin: Origin | None, name: str, larger: Convolution) -> Origin | None:
    """The origin, with the weight of layer `name` drawn as PyTorch initialises `larger`."""
    draw = origin.initial if origin else None
    if origin is None or draw is None:
        return origin

    def initial() -> Mapping[str, Tensor]:
        return {**draw(), f"{name}.weight": larger.module().state_dict()["weight"]}

    return replace(origin, initial=initial)


# dilated_pool


def _dilated_pool(network: Network, strength: int, _layers: Patterns) -> Network:
    _refuse_below(0, "dilated_pool", strength)
    if strength == 0:
        return network
    pool = MaxPool(3, stride=1, padding=strength, dilation=strength)
    return network.with_behind(pool_place(network), POOL_NAME, pool)


KNOBS: Mapping[str, Knob] = MappingProxyType(
    {
        POOL: Knob(_pool, lambda _, size: range(NO_POOL, size + 2), "kernel of the max-pool"),
        "stride": Knob(
            _stride, lambda _, size: range(1, size + 1), "times the first convolution's stride"
        ),
        DILATION: Knob(
            _dilation, lambda _, size: range(1, max(size, 2)), "times the convolutions' dilation"
        ),
        "convolution": Knob(
            _kernel, lambda network, size: _kernels(network, 2 * size), "first convolution's kernel"
        ),
        "dilated_pool": Knob(
            _dilated_pool, lambda _, size: range(size), "dilation of the max-pool"
        ),
    }
)
"""Every knob by its name."""


def _unfit(_name: str, thing: Any) -> str | None:
    """Why an object of a plugin is not a knob; None if it is one."""
    return None if isinstance(thing, Knob) else f"is a {type(thing).__name__}, not a Knob"


OUTSIDE: Shelf[Knob] = Shelf("knobs", lambda: KNOBS, _unfit)
"""Knobs of plugins."""
