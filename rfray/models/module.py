"""The trainable torch module of a network description."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn

from rfray.models.network import INPUT, Network
from rfray.models.opaque import AnyNetwork
from rfray.models.operations import Add, BatchNorm, Convolution, Linear, Relu

Builder = Callable[[Any], nn.Module]
"""Makes a module that computes one operation of a description."""

See = Callable[[str, Tensor, Tensor], object]
"""Takes a layer's name, its first input, and its features, which may be overwritten later:
(images, channels, height, width) for a map, (images, features) for a vector."""

NO_STAND_INS: Mapping[type, Builder] = MappingProxyType({})
"""Every operation is computed by its own module."""


class NetworkModule(nn.Module):
    """Runs the layers of a description in their order; submodules have the layers' names."""

    def __init__(self, network: Network, stand_ins: Mapping[type, Builder] = NO_STAND_INS) -> None:
        super().__init__()
        self.network = network
        overwriting = _overwriting(network)
        for layer in network:
            stand_in = stand_ins.get(type(layer.operation))
            part = stand_in(layer.operation) if stand_in else layer.operation.module()
            if isinstance(part, nn.ReLU) and layer.name in overwriting:
                part.inplace = True
            _place(self, layer.name, part)
        self._last_reader = {name: layer.name for layer in network for name in layer.inputs}

    def get_submodule(self, target: str) -> nn.Module:
        """The module of a name with dots, even if an attribute has the same name."""
        found: nn.Module = self
        for step in target.split(".") if target else ():
            below = found._modules.get(step)
            if below is None:
                raise AttributeError(f"there is no module '{target}'")
            found = below
        return found

    def forward(self, images: Tensor) -> Tensor:
        """Logits (images, classes) of float images (images, 3, height, width)."""
        return self.advance({INPUT: images}, 0, len(self.network.layers))[self.network.output]

    def advance(self, maps: Mapping[str, Tensor], start: int, stop: int) -> dict[str, Tensor]:
        """Compute the layers `start` to `stop` - 1, counted from 0.

        Args:
            maps: By layer, the maps that layers from `start` on read; for 0, the images as `INPUT`.
            start: The first layer to compute.
            stop: The first layer after those to compute.

        Returns:
            By layer, the maps that layers from `stop` on read, and the network's output.
        """
        maps = dict(maps)
        for layer in self.network.layers[start:stop]:
            module = self.get_submodule(layer.name)
            maps[layer.name] = module(*(maps[name] for name in layer.inputs))
            # A map that no later layer reads must not stay in memory.
            for name in layer.inputs:
                if self._last_reader[name] == layer.name:
                    maps.pop(name, None)
        return maps


def build(
    network: Network, seed: int, stand_ins: Mapping[type, Builder] = NO_STAND_INS
) -> NetworkModule:
    """A newly initialised module on the CPU in float32; equal seeds give equal weights.

    It is initialised by its origin, or else as PyTorch's modules are. The process's random state
    neither matters nor changes.

    Args:
        network: The description.
        seed: Of the initialisation.
        stand_ins: By type of operation, makes a module in place of the operation's own.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        draw = network.origin.initial if network.origin else None
        drawn = draw() if draw else None
        module = NetworkModule(network, stand_ins)
    if drawn is not None:
        _initialise(module, drawn)
    return module


def build_any(network: AnyNetwork, seed: int) -> nn.Module:
    """As `build`, for any network: if it cannot be read, the module that its code makes."""
    if isinstance(network, Network):
        return build(network, seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return network.make()


@contextmanager
def showing(module: NetworkModule, layers: Iterable[str], see: See) -> Iterator[None]:
    """A context in which `see` is called with the features of some layers in each forward pass."""
    hooks = [
        module.get_submodule(name).register_forward_hook(
            lambda _part, read, features, name=name: see(name, read[0], features)
        )
        for name in layers
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _overwriting(network: Network) -> set[str]:
    """ReLUs that may write their output over their input, which saves memory and time.

    No other layer reads that input, and the layer before does not need it for its gradient.
    """
    by_name = {layer.name: layer for layer in network}
    readers = Counter(name for layer in network for name in layer.inputs)
    return {
        layer.name
        for layer in network
        if isinstance(layer.operation, Relu)
        and (before := by_name.get(layer.inputs[0])) is not None
        and isinstance(before.operation, (Add, BatchNorm, Convolution, Linear))
        and readers[before.name] == 1
    }


def _initialise(module: NetworkModule, drawn: Mapping[str, Tensor]) -> None:
    """Give a module the parameters and buffers of the module that its description was read from."""
    own = module.state_dict()
    # A parameter outside of a layer, such as a factor per channel, is a layer's weight here.
    named = {name if name in own else f"{name}.weight": one for name, one in drawn.items()}
    module.load_state_dict({n: named[n].reshape(own[n].shape) for n in own}, strict=True)


def _place(root: nn.Module, name: str, part: nn.Module) -> None:
    """Make `part` a submodule of `root`, nested by the dots of its name.

    A layer may have the name of an attribute, such as `network`, which `add_module` refuses.
    """
    *path, last = name.split(".")
    for step in path:
        below = root._modules.get(step)
        if below is None:
            below = root._modules[step] = nn.Module()
        root = below
    earlier = root._modules.get(last)
    if earlier is not None:  # made for a layer whose name begins with this one's
        part._modules.update(earlier._modules)
    root._modules[last] = part
