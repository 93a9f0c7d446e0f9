"""One-shot pruning, and how much of what it removes was alive."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn

from rfray.cell import Cell
from rfray.models.geometry import live_taps
from rfray.models.network import Network
from rfray.training.pruning_criteria import Criterion, Scope


def prunable_weights(
    names: Sequence[str], *, first_convolution: bool, classifier: bool
) -> Sequence[str]:
    """`names`, those of a network's weights, with or without the first and the last one."""
    return names[0 if first_convolution else 1 : None if classifier else -1]


def all_weights(module: nn.Module, names: Iterable[str]) -> dict[str, Tensor]:
    """True for every number of the weights called `names`, in their shapes."""
    return {
        name: torch.ones_like(
            module.get_parameter(name), dtype=torch.bool, memory_format=torch.contiguous_format
        )
        for name in names
    }


def live_weights(
    module: nn.Module, network: Network, image_size: int, names: Iterable[str]
) -> dict[str, Tensor]:
    """True for every number of the weights that can meet a real pixel, in the weights' shapes."""
    taps = {f"{layer}.weight": one for layer, one in live_taps(network, image_size).items()}
    live = all_weights(module, names)
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
        candidates: By name of a weight, True where a number of it may be removed; the others are
            kept, and neither counted nor scored.
        rate: Share of the candidates, above 0 and below 1.
        scope: Whose lowest scores go: those of all weights, or of each (`SCOPES`).
        criterion: The scores (`CRITERIA`).
    """
    scores = [
        criterion(module.get_parameter(name).detach()[among]) for name, among in candidates.items()
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
            weight = module.get_parameter(name)
            weight.copy_(torch.where(mask, weight, torch.zeros_like(weight)))


def hold_masks(module: nn.Module, masks: Mapping[str, Tensor]) -> None:
    """Give pruned weights no gradient from now on, so that they stay exactly zero.

    Masking the gradient rather than the weight keeps pruned weights out of the norm that gradient
    clipping looks at, as PyTorch's own pruning does.
    """
    for name, mask in masks.items():
        module.get_parameter(name).register_hook(mask.__rmul__)


def zero_masks(module: nn.Module, names: Iterable[str]) -> dict[str, Tensor]:
    """Masks (False: pruned) read off weights that are exactly zero.

    Pruning makes a weight exactly zero and nothing else does: training leaves none that is, short
    of weight decay so strong that a weight underflows, which would be held at zero as well.
    """
    return {name: module.get_parameter(name) != 0 for name in names}


def sparsity(module: nn.Module, names: Iterable[str]) -> float:
    """Share of exactly zero numbers among all of the weights called `names`, 0 to 1."""
    zeros = [module.get_parameter(name) == 0 for name in names]
    return sum(int(zero.sum()) for zero in zeros) / sum(zero.numel() for zero in zeros)


def live_sparsity(module: nn.Module, network: Network, image_size: int) -> float:
    """Share of exactly zero weights among those that can meet a real pixel, 0 to 1."""
    live = live_weights(module, network, image_size, network.weights)
    zeros = sum(int((module.get_parameter(name)[of] == 0).sum()) for name, of in live.items())
    return zeros / sum(int(alive.sum()) for alive in live.values())


def pruned_metrics(
    module: nn.Module, cell: Cell, accuracy: float, dense_accuracy: float
) -> dict[str, float]:
    """What is reported of a pruned network, accuracies in percent and sparsities from 0 to 1.

    Which weights can meet a real pixel is not known of a network that cannot be read.
    """
    network = cell.any_network
    metrics = {
        "test_accuracy": accuracy,
        "accuracy_drop": dense_accuracy - accuracy,
        "sparsity": sparsity(module, network.weights),
    }
    if isinstance(network, Network):
        metrics["live_sparsity"] = live_sparsity(module, network, cell.facts.image_size)
    return metrics
