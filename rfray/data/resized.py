"""Data sets of a fixed size, scaled to another one."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from rfray.data.dataset import Dataset, DatasetFacts, DatasetSource, Split, checked
from rfray.terminal.telling import counted

if TYPE_CHECKING:
    from torch import Tensor

_AT_ONCE = 1000  # pictures; a few megabytes at the sizes of `registry.FIXED`


def resized(source: DatasetSource, image_size: int | None) -> DatasetSource:
    """`source` with its images scaled to a side of `image_size` pixels; itself if that is its size.

    Mean and deviation stay those of the images before scaling, so that no file has to be read.
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
        UserError: The source cannot be read, or does not agree with its facts.
    """
    dataset = checked(source.load())
    return Dataset(
        replace(facts, findings=dataset.facts.findings),
        *(
            Split(_scaled(split.images, facts), split.labels)
            for split in (dataset.train, dataset.test)
        ),
    )


def _scaled(images: Tensor, facts: DatasetFacts) -> Tensor:
    import torch

    parts = images.split(_AT_ONCE)
    what = f"scaling {facts.name} to {facts.image_size} pixels"
    # Pillow releases Python's lock while it scales.
    with ThreadPoolExecutor() as threads:
        scaled = threads.map(partial(scaled_planes, size=facts.image_size), parts)
        return torch.cat(list(counted(scaled, len(parts), what)))


def scaled_planes(images: Tensor, size: int) -> Tensor:
    """Square pictures scaled to a side of `size` pixels, with the same pixels as from `fitted`.

    Pillow scales a picture row by row, rounds, and then scales it column by column. So all rows of
    all pictures are scaled as one high picture, and all columns as one wide picture: Pillow is
    called twice for thousands of pictures, not once for each. If all are grey, with three equal
    channels, only one channel is scaled.

    Args:
        images: uint8 (images, 3, side, side).
        size: Height and width of the result.

    Returns:
        uint8 (images, 3, size, size).
    """
    import numpy as np
    import torch
    from PIL import Image

    side = images.shape[-1]
    grey = bool((images[:, 1:] == images[:, :1]).all())
    planes = (images[:, :1] if grey else images).reshape(-1, side).numpy()
    count = len(planes) // side
    rows = Image.fromarray(planes).resize((size, len(planes)), Image.Resampling.BILINEAR)
    across = np.asarray(rows).reshape(count, side, size).transpose(1, 0, 2)
    columns = Image.fromarray(np.ascontiguousarray(across).reshape(side, count * size)).resize(
        (count * size, size), Image.Resampling.BILINEAR
    )
    scaled = np.asarray(columns).reshape(size, count, size).transpose(1, 0, 2)
    found = torch.from_numpy(np.array(scaled, order="C")).view(len(images), -1, size, size)
    return found.expand(-1, 3, -1, -1)
