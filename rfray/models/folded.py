"""A network in eval mode with its batch norms folded into the convolutions before them.

In eval mode a batch norm is an affine function of each channel. So a convolution W, b with a batch
norm after it is one convolution with the weights s·W and the bias s·(b - μ) + β, where
s = γ/√(σ² + ε). The outputs are the same function of the same parameters, and so are all
derivatives. But the norm, with its first and second derivatives, is computed on weights and not on
maps, which is less work.
"""

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rfray.models.module import NetworkModule
from rfray.models.network import INPUT, Layer, Network
from rfray.models.operations import BatchNorm, Convolution


class FoldedModule(nn.Module):
    """The same outputs as a `NetworkModule` in eval mode, with the parameters of that module."""

    def __init__(self, module: NetworkModule) -> None:
        super().__init__()
        self.module = module
        self._norms = _norms_after_convolutions(module.network)
        self.eval()

    def _pair(self, layer: str) -> tuple[nn.Conv2d, nn.BatchNorm2d]:
        conv = self.module.get_submodule(layer)
        norm = self.module.get_submodule(self._norms[layer])
        return cast("nn.Conv2d", conv), cast("nn.BatchNorm2d", norm)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (images, classes) of float images (images, 3, height, width)."""
        maps = {INPUT: images}
        folded = set(self._norms.values())
        for layer in self.module.network:
            source = maps[layer.inputs[0]]
            if layer.name in folded:
                maps[layer.name] = source
            elif layer.name in self._norms:
                maps[layer.name] = self._convolve(layer, source)
            else:
                part = self.module.get_submodule(layer.name)
                maps[layer.name] = part(*(maps[name] for name in layer.inputs))
        return maps[self.module.network.output]

    def _convolve(self, layer: Layer, maps: Tensor) -> Tensor:
        conv, norm = self._pair(layer.name)
        mean, variance = cast("Tensor", norm.running_mean), cast("Tensor", norm.running_var)
        scale = norm.weight * torch.rsqrt(variance + norm.eps)
        centre = mean if conv.bias is None else mean - conv.bias
        return F.conv2d(
            maps,
            conv.weight * scale.view(-1, 1, 1, 1),
            norm.bias - scale * centre,
            conv.stride,
            cast("tuple[int, int]", conv.padding),
            conv.dilation,
            conv.groups,
        )


def folded(module: nn.Module) -> nn.Module:
    """`module` with its batch norms folded, or `module` itself if it was not read."""
    return FoldedModule(module) if isinstance(module, NetworkModule) else module


def _norms_after_convolutions(network: Network) -> dict[str, str]:
    """For each convolution that only a batch norm reads, that batch norm."""
    readers: dict[str, list[Layer]] = {}
    for layer in network:
        for name in layer.inputs:
            readers.setdefault(name, []).append(layer)
    return {
        layer.name: readers[layer.name][0].name
        for layer in network
        if isinstance(layer.operation, Convolution)
        and len(readers.get(layer.name, [])) == 1
        and isinstance(readers[layer.name][0].operation, BatchNorm)
    }
