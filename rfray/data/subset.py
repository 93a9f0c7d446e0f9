"""A random subset of images that is the same in every run and on every machine."""

from __future__ import annotations

import torch
from torch import Tensor


def fixed_subset(available: int, wanted: int) -> Tensor:
    """Ascending indices int64 (wanted,) of some of `available` images.

    A random subset, for a data set that is sorted by class must not give one class.
    """
    generator = torch.Generator().manual_seed(0)
    return torch.randperm(available, generator=generator)[:wanted].sort().values
