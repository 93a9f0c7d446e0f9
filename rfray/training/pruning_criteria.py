"""What pruning removes: a score for every weight, and which lowest scores are removed.

Scores are only compared, so any increasing function of a score is the same criterion. If
`torch.nn.utils.prune` has a criterion or a scope, exactly the same weights are removed here, also
for equal scores.
"""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

import torch
from torch import Tensor

Criterion = Callable[[Tensor], Tensor]
"""Takes weights (n,) of one layer, gives their scores (n,): the lowest are removed first."""

Scope = Callable[[Sequence[Tensor], float], Sequence[Tensor]]
"""Takes the scores (n,) of each layer and the share to remove; gives True (n,) for removed ones."""


def magnitude(weights: Tensor) -> Tensor:
    """|w|: the L1 criterion."""
    return weights.abs()


def lamp(weights: Tensor) -> Tensor:
    """Layer-adaptive magnitude, w² / Σ v² over the layer's |v| ≥ |w| (Lee et al., ICLR 2021).

    The largest weight of a layer has the score 1, so a global threshold does not empty a layer
    before all others. In a layer of zeros all scores are 0. Computed in float64, in which scores
    increase strictly with |w| of float32 weights.
    """
    squares = weights.double().square()
    ascending = squares.sort().values
    at_least_as_large = ascending.flip(0).cumsum(0).flip(0)
    denominators = at_least_as_large[torch.searchsorted(ascending, squares)]
    return torch.where(squares > 0, squares / denominators, 0.0)


def at_random(seed: int) -> Criterion:
    """Uniform scores, drawn layer by layer from one generator: each seed gives another order.

    One seed gives one order, so a higher rate removes all that a lower one does. Drawn on the CPU,
    where draws are the same on every machine; `torch.nn.utils.prune` removes the highest draws.
    """
    generator = torch.Generator().manual_seed(seed)

    def scores(weights: Tensor) -> Tensor:
        return -torch.rand(len(weights), generator=generator).to(weights.device)

    return scores


CRITERIA: Mapping[str, Callable[[int], Criterion]] = MappingProxyType(
    {"magnitude": lambda _seed: magnitude, "random": at_random, "lamp": lambda _seed: lamp}
)
"""Each criterion by its name in sweep files; it takes a seed."""


def lowest_of_all(scores: Sequence[Tensor], rate: float) -> Sequence[Tensor]:
    """One threshold for all layers; the count is rounded to the nearest weight, once."""
    removed = _lowest(torch.cat(list(scores)), rate)
    return torch.split(removed, [len(score) for score in scores])


def lowest_of_each(scores: Sequence[Tensor], rate: float) -> Sequence[Tensor]:
    """The same share of each layer; the count is rounded to the nearest weight, layer by layer."""
    return [_lowest(score, rate) for score in scores]


SCOPES: Mapping[str, Scope] = MappingProxyType({"global": lowest_of_all, "layer": lowest_of_each})
"""Each scope by its name in sweep files."""


def _lowest(scores: Tensor, rate: float) -> Tensor:
    removed = torch.zeros_like(scores, dtype=torch.bool)
    count = round(rate * len(scores))
    removed[torch.topk(scores, count, largest=False).indices] = True
    return removed
