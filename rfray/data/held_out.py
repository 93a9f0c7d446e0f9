"""Which training images are held out for validation: the same ones for every cell."""

from __future__ import annotations

import torch
from torch import Tensor

from rfray.data.validation import counts_by_class
from rfray.seeding import stream_seed

_SEED = 0  # no cell's: whatever is trained on a data set is validated on the same images


def held_out(labels: Tensor, wanted: int) -> Tensor:
    """Which images are held out, `wanted` of them, class by class in equal shares.

    Within a class the choice is random, but a function of `labels` and `wanted` alone.

    Args:
        labels: int64 (images,) on the CPU.
        wanted: See `counts_by_class`.

    Returns:
        bool (images,).
    """
    generator = torch.Generator().manual_seed(stream_seed(_SEED, "validation"))
    order = torch.randperm(len(labels), generator=generator)
    by_class = order[labels[order].argsort(stable=True)]
    available = labels.bincount()
    starts = available.cumsum(0) - available
    rank_in_class = torch.empty_like(order)
    rank_in_class[by_class] = torch.arange(len(labels)) - starts[labels[by_class]]
    counts = torch.tensor(counts_by_class(available.tolist(), wanted))
    return rank_in_class < counts[labels]
