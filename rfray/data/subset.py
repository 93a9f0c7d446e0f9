"""A subset of a split that is the same in every run."""

import torch
from torch import Tensor

from rfray.data.dataset import Split
from rfray.data.device import selected


def fixed_subset(available: int, wanted: int) -> Tensor:
    """A random choice of images that is always the same; it is random because data may be sorted.

    Args:
        available: Number of images.
        wanted: Number of images to choose; all if there are fewer.

    Returns:
        Indices, ascending, int64 (min(available, wanted),); a larger choice contains each smaller.
    """
    generator = torch.Generator().manual_seed(0)
    return torch.randperm(available, generator=generator)[:wanted].sort().values


def chosen_images(split: Split, wanted: int) -> Split:
    """A fixed choice of a split's images and labels, on its device; all if there are fewer."""
    return selected(split, fixed_subset(len(split), wanted).to(split.labels.device))
