"""One-shot pruning, and the sparsity of all weights and of live weights."""

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
    """The names of a network's weights, with or without the first and the last one."""
    return names[0 if first_convolution else 1 : None if classifier else -1]


def all_weights(module: nn.Module, names: Iterable[str]) -> dict[str, Tensor]:
    """True for every element of the weights `names`, in their shapes."""
    return {
        name: torch.ones_like(
            module.get_parameter(name), dtype=torch.bool, memory_format=torch.contiguous_format
        )
        for name in names
    }


def live_weights(
    module: nn.Module, network: Network, image_size: int, names: Iterable[str]
) -> dict[str, Tensor]:
    """True for every live element of the weights `names`, in their shapes."""
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
        module: The network; it is not changed.
        candidates: By name of a weight, True for elements that may be removed; the others stay,
            and do not count.
        rate: Share of the candidates, above 0 and below 1.
        scope: Removes the lowest scores of all weights together, or of each (`SCOPES`).
        criterion: Gives the scores (`CRITERIA`).
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
    """Set the gradient of pruned weights to zero from now on, so that they stay exactly zero.

    Because the gradient is masked and not the weight, pruned weights do not count in the norm for
    gradient clipping, as in PyTorch's own pruning.
    """
    for name, mask in masks.items():
        module.get_parameter(name).register_hook(mask.__rmul__)


def zero_masks(module: nn.Module, names: Iterable[str]) -> dict[str, Tensor]:
    """Masks (False: pruned) of the weights that are not exactly zero.

    Only pruning makes weights exactly zero. Training does not, unless weight decay is so strong
    that a weight underflows; such a weight would then stay zero as well.
    """
    return {name: module.get_parameter(name) != 0 for name in names}


def sparsity(module: nn.Module, names: Iterable[str]) -> float:
    """Share of exactly zero elements among the weights `names`, 0 to 1."""
    zeros = [module.get_parameter(name) == 0 for name in names]
    return sum(int(zero.sum()) for zero in zeros) / sum(zero.numel() for zero in zeros)


def live_sparsity(module: nn.Module, network: Network, image_size: int) -> float:
    """Share of exactly zero weights among the live ones, 0 to 1."""
    live = live_weights(module, network, image_size, network.weights)
    zeros = sum(int((module.get_parameter(name)[of] == 0).sum()) for name, of in live.items())
    return zeros / sum(int(alive.sum()) for alive in live.values())


def pruned_metrics(
    module: nn.Module, cell: Cell, accuracy: float, dense_accuracy: float
) -> dict[str, float]:
    """The metrics of a pruned network: accuracies in percent, sparsities from 0 to 1.

    The live sparsity is not known for a network that cannot be read.
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
