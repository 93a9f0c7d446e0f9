"""Data sets resident on the device that uses them, loaded once a process."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

from rfray.data.cache import prepared
from rfray.data.dataset import Dataset, DatasetFacts, Split, UnreadableDatasetError
from rfray.data.registry import dataset_source
from rfray.errors import UserError


@cache
def resident(name: str, device: str) -> Dataset:
    """The data set `name` on `device`, kept for the next stage that runs in this process.

    Raises:
        UnreadableDatasetError: Its files are missing, damaged or not what its facts say.
    """
    try:
        loaded = prepared(dataset_source(name))
    except UserError as error:
        raise UnreadableDatasetError(name, error) from error
    return Dataset(loaded.facts, _moved(loaded.train, device), _moved(loaded.test, device))


def _moved(split: Split, device: str) -> Split:
    return Split(split.images.to(device), split.labels.to(device))


def gathered(images: Tensor, chosen: Tensor) -> Tensor:
    """New images of these indices, channels last: fast where all of them are, as `prepared` ones.

    Args:
        images: (images, 3, height, width).
        chosen: int64 (n,), on the same device.
    """
    return images.permute(0, 2, 3, 1).index_select(0, chosen).permute(0, 3, 1, 2)


def normalised(images: Tensor, facts: DatasetFacts) -> Tensor:
    """Float32 images with the training split's mean and deviation removed, channels last.

    Args:
        images: uint8, or floating of 0 to 255 (images, 3, height, width); left as they are.
        facts: Whose mean and deviation to remove.
    """
    # (x / 255 - mean) / deviation in two passes over whole rows of pixels: with a row of
    # channels as the innermost run, three numbers long, they would take twice as long.
    width = images.shape[-1]
    deviation = torch.tensor(facts.deviation * width, device=images.device)
    mean = torch.tensor(facts.mean * width, device=images.device)
    pixels = images.permute(0, 2, 3, 1).to(
        torch.float32, memory_format=torch.contiguous_format, copy=True
    )
    rows = pixels.view(-1, 3 * width)
    rows.mul_(1 / (255 * deviation)).sub_(mean / deviation)
    return pixels.permute(0, 3, 1, 2)
