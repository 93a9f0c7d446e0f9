"""One-shot pruning, and how much of what it removes was alive."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from rfray.cell import Cell
from rfray.models.geometry import live_taps
from rfray.models.network import Network
from rfray.training.pruning_criteria import Criterion, Scope


def prunable_layers(network: Network, *, first_convolution: bool, classifier: bool) -> list[str]:
    """Names of the convolutions and linear layers, with or without the first and last one."""
    names = [layer.name for layer in network.weight_layers]
    return names[0 if first_convolution else 1 : None if classifier else -1]


def all_weights(module: nn.Module, layers: Iterable[str]) -> dict[str, Tensor]:
    """True for every weight of `layers`, in the weights' shapes."""
    return {
        name: torch.ones_like(
            _weight(module, name), dtype=torch.bool, memory_format=torch.contiguous_format
        )
        for name in layers
    }


def live_weights(
    module: nn.Module, network: Network, image_size: int, layers: Iterable[str]
) -> dict[str, Tensor]:
    """True for every weight of `layers` that can meet a real pixel, in the weights' shapes."""
    taps = live_taps(network, image_size)
    live = all_weights(module, layers)
    for name in live.keys() & taps.keys():
        down, across = (torch.tensor(axis, device=live[name].device) for axis in taps[name])
        live[name] &= down[:, None] & across
    return live


def pruning_masks(
    module: nn.Module,
    candidates: Mapping[str, Tensor],
    rate: float,
    scope: Scope,
    criterion: Criterion,
) -> dict[str, Tensor]:
    """Boolean masks (False: pruned) that remove the share `rate` of the candidates.

    Args:
        module: Whose weights are scored; left as it is.
        candidates: By layer, True where a weight may be removed; the others are kept, and neither
            counted nor scored.
        rate: Share of the candidates, above 0 and below 1.
        scope: Whose lowest scores go: those of all layers, or of each (`SCOPES`).
        criterion: The scores (`CRITERIA`).
    """
    scores = [
        criterion(_weight(module, name).detach()[among]) for name, among in candidates.items()
    ]
    masks = {}
    for (name, among), removed in zip(candidates.items(), scope(scores, rate), strict=True):
        masks[name] = torch.ones_like(among)
        masks[name][among] = ~removed
    return masks


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
    """Masks (False: pruned) read off weights that are exactly zero.

    Pruning makes a weight exactly zero and nothing else does: training leaves none that is, short
    of weight decay so strong that a weight underflows, which would be held at zero as well.
    """
    return {name: _weight(module, name) != 0 for name in layers}


def sparsity(module: nn.Module, network: Network) -> float:
    """Share of exactly zero weights among all weights of convolutions and linear layers, 0 to 1."""
    zeros = [_weight(module, layer.name) == 0 for layer in network.weight_layers]
    return sum(int(zero.sum()) for zero in zeros) / sum(zero.numel() for zero in zeros)


def live_sparsity(module: nn.Module, network: Network, image_size: int) -> float:
    """Share of exactly zero weights among those that can meet a real pixel, 0 to 1."""
    names = [layer.name for layer in network.weight_layers]
    live = live_weights(module, network, image_size, names)
    zeros = sum(int((_weight(module, name)[live[name]] == 0).sum()) for name in names)
    return zeros / sum(int(alive.sum()) for alive in live.values())


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
