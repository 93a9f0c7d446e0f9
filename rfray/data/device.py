"""Data sets resident on the device that uses them, loaded once a process."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

from rfray.data.cache import prepared
from rfray.data.dataset import Dataset, DatasetFacts, Split
from rfray.data.registry import dataset_source


@cache
def resident(name: str, device: str) -> Dataset:
    """The data set `name` on `device`, kept for the next stage that runs in this process."""
    loaded = prepared(dataset_source(name))
    return Dataset(loaded.facts, _moved(loaded.train, device), _moved(loaded.test, device))


def _moved(split: Split, device: str) -> Split:
    return Split(split.images.to(device), split.labels.to(device))


def normalised(images: Tensor, facts: DatasetFacts) -> Tensor:
    """Float32 images with the training split's mean and deviation removed, channels last.

    Args:
        images: uint8, or floating of 0 to 255 (images, 3, height, width); left as they are.
        facts: Whose mean and deviation to remove.
    """
    # (x / 255 - mean) / deviation in two passes, and bytes are laid out anew rather than floats.
    deviation = torch.tensor(facts.deviation, device=images.device).view(1, 3, 1, 1)
    mean = torch.tensor(facts.mean, device=images.device).view(1, 3, 1, 1)
    laid_out = images.contiguous(memory_format=torch.channels_last)
    return laid_out.to(torch.float32, copy=True).mul_(1 / (255 * deviation)).sub_(mean / deviation)
