"""What a data set is: facts that the plan may read at once, and tensors that a worker loads."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class DatasetFacts:
    """What is known of a data set without reading it.

    Attributes:
        name: Name in the registry.
        fingerprint: Identity of its content and split; it enters the key of every stage, so it
            must change whenever a single pixel, label or split does.
        classes: Number of classes.
        image_size: Height and width in pixels.
        train_images: Size of the training split.
        test_images: Size of the test split.
        mean: Per-channel mean of the training pixels, of 0 to 1.
        deviation: Per-channel standard deviation of the training pixels, of 0 to 1.
    """

    name: str
    fingerprint: str
    classes: int
    image_size: int
    train_images: int
    test_images: int
    mean: tuple[float, float, float]
    deviation: tuple[float, float, float]


@dataclass(frozen=True)
class Split:
    """Images uint8 (images, 3, height, width) and labels int64 (images,), on one device."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class Dataset:
    """A data set in memory."""

    facts: DatasetFacts
    train: Split
    test: Split


@dataclass(frozen=True)
class DatasetSource:
    """A registered data set: its facts, and how to read it into memory (on the CPU)."""

    facts: DatasetFacts
    load: Callable[[], Dataset]
