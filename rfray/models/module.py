"""The trainable torch module of a network description."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn

from rfray.models import network as layers
from rfray.models.network import INPUT, Network

Builder = Callable[[Any], nn.Module]
"""From one operation of a description to the module that computes it."""


class Sum(nn.Module):
    """Sum of its two inputs."""

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        """`left + right`."""
        return left + right


BUILDERS: Mapping[type, Builder] = MappingProxyType(
    {
        layers.Convolution: lambda conv: nn.Conv2d(
            conv.in_channels,
            conv.out_channels,
            conv.kernel_size,
            stride=conv.stride,
            padding=conv.padding,
            dilation=conv.dilation,
            bias=conv.bias,
        ),
        layers.MaxPool: lambda pool: nn.MaxPool2d(
            pool.kernel_size, stride=pool.stride, padding=pool.padding, dilation=pool.dilation
        ),
        layers.BatchNorm: lambda norm: nn.BatchNorm2d(norm.channels),
        layers.Relu: lambda _: nn.ReLU(),
        layers.Add: lambda _: Sum(),
        layers.GlobalAveragePool: lambda _: nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()),
        layers.Linear: lambda linear: nn.Linear(linear.in_features, linear.out_features),
    }
)
"""PyTorch's own module, with its default initialisation, for each operation."""


class NetworkModule(nn.Module):
    """Runs the layers of a description in their order; children carry the layers' names."""

    def __init__(self, network: Network, builders: Mapping[type, Builder] = BUILDERS) -> None:
        super().__init__()
        self.network = network
        for layer in network:
            self.add_module(layer.name, builders[type(layer.operation)](layer.operation))
        self._last_reader = {name: layer.name for layer in network for name in layer.inputs}

    def forward(self, images: Tensor) -> Tensor:
        """Logits (images, classes) of float images (images, 3, height, width)."""
        return self.advance({INPUT: images}, 0, len(self.network.layers))[self.network.output]

    def advance(self, maps: Mapping[str, Tensor], start: int, stop: int) -> dict[str, Tensor]:
        """Compute the layers `start` to `stop` - 1, counted from 0.

        Args:
            maps: By layer, those that layers from `start` on read; `INPUT`, the images, at 0.
            start: The first layer to compute.
            stop: The first layer not to compute.

        Returns:
            By layer, the maps that layers from `stop` on read, and the network's output.
        """
        maps = dict(maps)
        for layer in self.network.layers[start:stop]:
            module = self.get_submodule(layer.name)
            maps[layer.name] = module(*(maps[name] for name in layer.inputs))
            # A map that nobody reads any more must not stay in memory until the last layer.
            for name in layer.inputs:
                if self._last_reader[name] == layer.name:
                    maps.pop(name, None)
        return maps


def build(
    network: Network, seed: int, builders: Mapping[type, Builder] = BUILDERS
) -> NetworkModule:
    """A freshly initialised module on the CPU in float32; equal seeds give equal weights.

    PyTorch's default initialisation, drawn from a generator of its own: neither the process's
    random state nor what ran before matters, and the state is left as it was.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return NetworkModule(network, builders)
