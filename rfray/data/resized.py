"""Data sets of a fixed size, scaled to another one."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from rfray.data.dataset import Dataset, DatasetFacts, DatasetSource, Split, checked
from rfray.data.pictures import fitted
from rfray.telling import counted

if TYPE_CHECKING:
    from torch import Tensor


def resized(source: DatasetSource, image_size: int | None) -> DatasetSource:
    """`source` with its images scaled to `image_size` pixels a side; itself if that is its size.

    Mean and deviation stay those of the images before scaling, so that no file need be read.
    """
    if image_size in (None, source.facts.image_size):
        return source
    facts = replace(
        source.facts,
        fingerprint=f"{source.facts.fingerprint}-{image_size}px",
        image_size=image_size,
    )
    return DatasetSource(facts, partial(load, facts, source))


def load(facts: DatasetFacts, source: DatasetSource) -> Dataset:
    """Read the source, check it against its own facts, and scale every image.

    Raises:
        UserError: The source cannot be read, or is not what its facts say.
    """
    dataset = checked(source.load())
    return Dataset(
        facts,
        *(
            Split(_scaled(split.images, facts), split.labels)
            for split in (dataset.train, dataset.test)
        ),
    )


def _scaled(images: Tensor, facts: DatasetFacts) -> Tensor:
    import numpy as np
    import torch
    from PIL import Image

    size = facts.image_size
    scaled = np.empty((len(images), 3, size, size), dtype=np.uint8)
    pixels = counted(images.numpy(), len(images), f"scaling {facts.name} to {size} pixels")
    for place, image in enumerate(pixels):
        picture = Image.fromarray(np.ascontiguousarray(image.transpose(1, 2, 0)))
        scaled[place] = fitted(picture, size).transpose(2, 0, 1)
    return torch.from_numpy(scaled)
