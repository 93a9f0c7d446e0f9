"""The types of a data set: facts that a plan reads, and tensors that a worker loads."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from rfray.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

AugmentationName = Literal["none", "crop_flip", "resized_crop_flip"]
"""A policy of `rfray.data.augment`."""


class UnreadableDatasetError(UserError):
    """A data set's files are missing on this machine, damaged, or not those of the plan.

    Attributes:
        dataset: Its name: every run on it fails on this machine.
    """

    def __init__(self, dataset: str, cause: UserError) -> None:
        super().__init__(cause.what, where=cause.where, do=cause.do)
        self.dataset = dataset


@dataclass(frozen=True)
class DatasetFacts:
    """What is known about a data set without reading it.

    Attributes:
        name: Name in the registry.
        fingerprint: Identity of its content, split, normalisation and default augmentation. It is
            part of the key of every stage and the name of the prepared file, so it must change if
            any pixel, label or split does; only letters, digits, `.`, `_` and `-`.
        image_size: Height and width in pixels.
        train_images: Size of the training split, without the images held out for validation.
        test_images: Size of the test split.
        mean: Mean of the training pixels by channel, from 0 to 1.
        deviation: Standard deviation of the training pixels by channel, from 0 to 1.
        augmentation: How its training images are usually augmented.
        findings: What a user should know about how its files were read, one sentence each. They
            do not count when facts are compared.
        validation_images: Number of published training images that are held out for validation.
    """

    name: str
    fingerprint: str
    classes: int
    image_size: int
    train_images: int
    test_images: int
    mean: tuple[float, float, float]
    deviation: tuple[float, float, float]
    augmentation: AugmentationName = "none"
    findings: tuple[str, ...] = field(default=(), compare=False)
    validation_images: int = 0


@dataclass(frozen=True)
class Split:
    """Images uint8 (images, 3, height, width) and labels int64 (images,), on one device."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class Dataset:
    """A data set in memory; `validation` has the training images that a study holds out."""

    facts: DatasetFacts
    train: Split
    test: Split
    validation: Split | None = None


@dataclass(frozen=True)
class DatasetSource:
    """A registered data set: its facts, and the function that reads it into CPU memory."""

    facts: DatasetFacts
    load: Callable[[], Dataset]


def problem_with(dataset: Dataset) -> str | None:
    """How a loaded data set differs from its facts, in words; None if they agree."""
    facts = dataset.facts
    for name, split, count in (
        ("training", dataset.train, facts.train_images),
        ("test", dataset.test, facts.test_images),
    ):
        expected = (count, 3, facts.image_size, facts.image_size)
        found = tuple(split.images.shape)
        if found != expected:
            return f"its {name} images have the shape {found}, expected {expected}"
        if len(split) != count:
            return f"it has {len(split)} {name} labels, expected {count}"
        if count and not 0 <= int(split.labels.min()) <= int(split.labels.max()) < facts.classes:
            return f"a {name} label is not one of its {facts.classes} classes"
    return None


def checked(dataset: Dataset) -> Dataset:
    """`dataset` itself.

    Raises:
        UserError: It does not agree with its facts.
    """
    problem = problem_with(dataset)
    if problem is not None:
        raise UserError(problem, where=dataset.facts.name, do="put its published files in place")
    return dataset


def overlap_findings(dataset: Dataset) -> tuple[str, ...]:
    """A sentence about test pictures with the pixels of a training picture; empty if none."""
    train, test = (
        [hashlib.blake2b(pixels.tobytes(), digest_size=16).digest() for pixels in images.numpy()]
        for images in (dataset.train.images, dataset.test.images)
    )
    known = set(train)
    common = sum(digest in known for digest in test)
    if not common:
        return ()
    what = "is a training picture too" if common == 1 else "are training pictures too"
    return (f"{common:,} of {len(test):,} test pictures {what}",)
