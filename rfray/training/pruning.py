"""One-shot global magnitude pruning, and how much of what it removes was alive."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from rfray.cell import Cell
from rfray.models.geometry import live_taps
from rfray.models.network import Convolution, Network


def prunable_layers(network: Network, *, first_convolution: bool, classifier: bool) -> list[str]:
    """Names of the convolutions and linear layers, with or without the first and last one."""
    names = [layer.name for layer in network.weight_layers]
    return names[0 if first_convolution else 1 : None if classifier else -1]


def magnitude_masks(module: nn.Module, layers: Iterable[str], rate: float) -> dict[str, Tensor]:
    """Boolean masks (False: pruned) that remove the share `rate` of smallest |weight| of `layers`.

    The threshold is one for all layers together (global). The count is rounded to the nearest
    weight, as `torch.nn.utils.prune.global_unstructured` does with the L1 norm.
    """
    weights = {name: _weight(module, name) for name in layers}
    magnitudes = torch.cat([weight.abs().flatten() for weight in weights.values()])
    keep = torch.ones_like(magnitudes, dtype=torch.bool)
    count = round(rate * len(magnitudes))
    keep[torch.topk(magnitudes, count, largest=False).indices] = False
    parts = keep.split([weight.numel() for weight in weights.values()])
    return {
        name: part.view(weight.shape)
        for (name, weight), part in zip(weights.items(), parts, strict=True)
    }


def apply_masks(module: nn.Module, masks: Mapping[str, Tensor]) -> None:
    """Set the pruned weights to exactly zero."""
    with torch.no_grad():
        for name, mask in masks.items():
            weight = _weight(module, name)
            weight.copy_(torch.where(mask, weight, torch.zeros_like(weight)))


def hold_masks(module: nn.Module, masks: Mapping[str, Tensor]) -> None:
    """Give pruned weights no gradient from now on, so that they stay exactly zero.

    Masking the gradient rather than the weight keeps pruned weights out of the norm that gradient
    clipping looks at, as PyTorch's own pruning does.
    """
    for name, mask in masks.items():
        _weight(module, name).register_hook(mask.__rmul__)


def zero_masks(module: nn.Module, layers: Iterable[str]) -> dict[str, Tensor]:
    """Masks (False: pruned) read off weights that are exactly zero."""
    return {name: _weight(module, name) != 0 for name in layers}


def sparsity(module: nn.Module, network: Network) -> float:
    """Share of exactly zero weights among all weights of convolutions and linear layers, 0 to 1."""
    zeros = [_weight(module, layer.name) == 0 for layer in network.weight_layers]
    return sum(int(zero.sum()) for zero in zeros) / sum(zero.numel() for zero in zeros)


def live_sparsity(module: nn.Module, network: Network, image_size: int) -> float:
    """Share of exactly zero weights among those that can meet a real pixel, 0 to 1."""
    taps = live_taps(network, image_size)
    zeros = total = 0
    for layer in network.weight_layers:
        weight = _weight(module, layer.name).detach()
        if isinstance(layer.operation, Convolution):
            alive = torch.tensor(taps[layer.name], device=weight.device)
            weight = weight[:, :, alive][:, :, :, alive]
        zeros += int((weight == 0).sum())
        total += weight.numel()
    return zeros / total


def pruned_metrics(
    module: nn.Module, cell: Cell, accuracy: float, dense_accuracy: float
) -> dict[str, float]:
    """What is reported of a pruned network, accuracies in percent and sparsities from 0 to 1."""
    return {
        "test_accuracy": accuracy,
        "accuracy_drop": dense_accuracy - accuracy,
        "sparsity": sparsity(module, cell.network),
        "live_sparsity": live_sparsity(module, cell.network, cell.facts.image_size),
    }


def _weight(module: nn.Module, layer: str) -> Tensor:
    return module.get_parameter(f"{layer}.weight")
