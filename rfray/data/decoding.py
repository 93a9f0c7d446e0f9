"""Picture files as tensors, and the facts of a data set that come from its pictures."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from rfray.data.dataset import (
    AugmentationName,
    Dataset,
    DatasetFacts,
    Split,
    checked,
    overlap_findings,
)
from rfray.data.pictures import Shown, fitted, no_warnings
from rfray.data.treatment import Treatment, Treatments, treatment_findings
from rfray.errors import UserError
from rfray.terminal.telling import counted

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

_AT_ONCE = 64  # pictures given to the threads together, with their files in memory


@dataclass(frozen=True)
class Entry:
    """A picture of a split.

    Attributes:
        label: Its class, counted from 0.
        where: Its name in messages: its file, if it is one.
        origin: The part of its file that enters the fingerprint; empty if its pixels do.
    """

    shown: Shown
    label: int
    where: str
    origin: bytes = b""


@dataclass(frozen=True)
class OpenSplit:
    """A split whose pictures are not opened yet.

    Attributes:
        what: Its name while it is read, such as `DTD, test split`.
        length: Its number of pictures.
        entry: Opens the picture with an index; UserError if it cannot be shown.
    """

    what: str
    length: int
    entry: Callable[[int], Entry]


@no_warnings()
def decoded(
    split: OpenSplit,
    size: int,
    shaped: Callable[[Entry], NDArray[np.uint8]],
    done: Callable[[frozenset[Treatment], bytes], None] = lambda _, __: None,
) -> Split:
    """All pictures of a split, decoded by several threads.

    Args:
        split: The split.
        size: Height and width of the images.
        shaped: Makes a picture uint8 (size, size, 3).
        done: Is called with each picture's treatments and origin, in the order of the split.

    Raises:
        UserError: A picture cannot be shown, or `shaped` refuses it.
    """
    import numpy as np
    import torch

    images = np.empty((split.length, 3, size, size), dtype=np.uint8)
    labels = np.empty(split.length, dtype=np.int64)

    def decode(place: int) -> tuple[frozenset[Treatment], bytes]:
        entry = split.entry(place)
        labels[place] = entry.label
        images[place] = shaped(entry).transpose(2, 0, 1)
        return entry.shown.treatments, entry.origin

    # Pillow releases Python's lock while it decodes and scales.
    with ThreadPoolExecutor() as threads:
        all_done = (
            one
            for start in range(0, split.length, _AT_ONCE)
            for one in threads.map(decode, range(start, min(start + _AT_ONCE, split.length)))
        )
        for treatments, origin in counted(all_done, split.length, f"reading {split.what}"):
            done(treatments, origin)
    return Split(torch.from_numpy(images), torch.from_numpy(labels))


@dataclass(frozen=True)
class OpenSet:
    """A data set whose facts come from its pictures.

    Attributes:
        version: The start of the digest that becomes the fingerprint; raise it if pictures are
            read, scaled or usually augmented in another way.
        fingerprint: Makes the fingerprint from the digest of all origins and the decoded splits.
        other_size: Makes the error for a picture that is not square or not of the size of the
            first, from its name, its width, its height, and the side that it should have.
        augmentation: How its training images are usually augmented.
        decimals: Decimals of mean and deviation; by default they are not rounded.
    """

    name: str
    classes: int
    train: OpenSplit
    test: OpenSplit
    version: str
    fingerprint: Callable[[hashlib.blake2b, Sequence[Split]], str]
    other_size: Callable[[str, int, int, int], UserError]
    augmentation: AugmentationName = "none"
    decimals: int = 20


@no_warnings()
def read(opened: OpenSet, image_size: int | None, background: str | None) -> Dataset:
    """Decode all pictures of a data set, and find its facts.

    Mean and deviation are those of the training pixels after scaling.

    Args:
        opened: The data set.
        image_size: Side in pixels that pictures are scaled to; None does not scale.
        background: The background colour of pictures with transparent parts, if any.

    Raises:
        UserError: A picture cannot be shown; or, without `image_size`, it is not square or does
            not have the size of the first.
    """
    content = hashlib.blake2b(opened.version.encode(), digest_size=12)
    size = image_size or int(opened.train.entry(0).shown.image.height)
    treatments = Treatments()

    def shaped(entry: Entry) -> NDArray[np.uint8]:
        width, height = entry.shown.image.size
        if image_size is None and (width, height) != (size, size):
            raise opened.other_size(entry.where, width, height, size)
        return fitted(entry.shown.image, size)

    def done(had: frozenset[Treatment], origin: bytes) -> None:
        treatments.update(had)
        content.update(origin)

    splits = [decoded(split, size, shaped, done) for split in (opened.train, opened.test)]
    mean, deviation = mean_and_deviation(splits[0].images, opened.name, opened.decimals)
    facts = DatasetFacts(
        name=opened.name,
        fingerprint=opened.fingerprint(content, splits),
        classes=opened.classes,
        image_size=size,
        train_images=opened.train.length,
        test_images=opened.test.length,
        mean=mean,
        deviation=deviation,
        augmentation=opened.augmentation,
    )
    dataset = checked(Dataset(facts, *splits))
    findings = (*treatment_findings(treatments, background), *overlap_findings(dataset))
    return replace(dataset, facts=replace(facts, findings=findings))


Channels = tuple[float, float, float]
"""One value each for red, green and blue."""


def mean_and_deviation(images: Tensor, name: str, decimals: int) -> tuple[Channels, Channels]:
    """Mean and standard deviation by channel over all pixels, from 0 to 1, in float64.

    Their sums are exact, because they are sums of integers.

    Raises:
        UserError: All pixels of a channel are equal.
    """
    moments = [_moments(images[:, channel]) for channel in range(3)]
    if not all(deviation for _, deviation in moments):
        raise UserError("all training pixels of a channel are equal", where=name)
    rounded = [tuple(round(value, decimals) for value in values) for values in moments]
    (red, green, blue), (red_by, green_by, blue_by) = zip(*rounded, strict=True)
    return (red, green, blue), (red_by, green_by, blue_by)


def _moments(channel: Tensor) -> tuple[float, float]:
    import torch

    counts = torch.zeros(256, dtype=torch.int64)
    for part in channel.split(4096):
        counts += torch.bincount(part.flatten(), minlength=256)
    frequencies = counts.tolist()
    pixels = sum(frequencies)
    total = sum(value * count for value, count in enumerate(frequencies))
    squares = sum(value * value * count for value, count in enumerate(frequencies))
    spread = pixels * squares - total * total
    return total / (255 * pixels), math.sqrt(spread) / (255 * pixels)
