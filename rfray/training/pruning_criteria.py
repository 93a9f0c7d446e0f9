"""What pruning removes: a score for every weight, and whose lowest scores go.

Scores are compared, never added up, so any increasing function of one is the same criterion. Where
`torch.nn.utils.prune` has a criterion or a scope, the same weights go here, ties and counts
included.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

import torch
from torch import Tensor

Criterion = Callable[[Tensor], Tensor]
"""Takes weights (n,) of one layer, gives their scores (n,): the lowest are removed first."""

Scope = Callable[[Sequence[Tensor], float], Sequence[Tensor]]
"""Takes the scores (n,) of each layer and the share to remove; True (n,) where a weight goes."""


def magnitude(weights: Tensor) -> Tensor:
    """|w|: the L1 criterion."""
    return weights.abs()


def lamp(weights: Tensor) -> Tensor:
    """Layer-adaptive magnitude, w² / Σ v² over the layer's |v| ≥ |w| (Lee et al., ICLR 2021).

    The largest of a layer scores 1, so a global threshold empties no layer before all others. A
    layer of zeros scores 0. In float64, where scores ascend strictly with |w| of float32 weights.
    """
    squares = weights.double().square()
    ascending = squares.sort().values
    at_least_as_large = ascending.flip(0).cumsum(0).flip(0)
    denominators = at_least_as_large[torch.searchsorted(ascending, squares)]
    return torch.where(squares > 0, squares / denominators, 0.0)


def at_random(seed: int) -> Criterion:
    """Uniform scores, drawn layer by layer from one generator: another order for another seed.

    One seed gives one order, so what a lower rate removes a higher one removes too. On the CPU,
    whose draws are the same on every machine; `torch.nn.utils.prune` removes the highest draws.
    """
    generator = torch.Generator().manual_seed(seed)

    def scores(weights: Tensor) -> Tensor:
        return -torch.rand(len(weights), generator=generator).to(weights.device)

    return scores


CRITERIA: Mapping[str, Callable[[int], Criterion]] = MappingProxyType(
    {"magnitude": lambda _seed: magnitude, "random": at_random, "lamp": lambda _seed: lamp}
)
"""Each criterion by its name in sweep files, of a seed."""


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
