"""A part of a split that is the same in every run."""

from __future__ import annotations

import torch
from torch import Tensor

from rfray.data.dataset import Split
from rfray.data.device import gathered


def fixed_subset(available: int, wanted: int) -> Tensor:
    """A random choice, the same everywhere: a data set sorted by class must not give one class.

    Args:
        available: How many images there are.
        wanted: How many to choose; all where there are no more.

    Returns:
        Indices, ascending, int64 (min(available, wanted),); a larger choice holds each smaller one.
    """
    generator = torch.Generator().manual_seed(0)
    return torch.randperm(available, generator=generator)[:wanted].sort().values


def chosen_images(split: Split, wanted: int) -> Split:
    """So many of the images of a split, or all if there are fewer, with their labels.

    Args:
        split: On any device, where the chosen ones stay.
        wanted: How many.
    """
    chosen = fixed_subset(len(split), wanted).to(split.labels.device)
    return Split(gathered(split.images, chosen), split.labels[chosen])
