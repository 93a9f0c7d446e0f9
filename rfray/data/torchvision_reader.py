"""Reading a set of `torchvision_sets` through torchvision's own class.

Facts and fingerprint come from the pictures, read once and remembered until a file changes; the
prepared copy is written on the same occasion.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock

from rfray.data.background import background_in_use, on_background
from rfray.data.dataset import Dataset, DatasetFacts, DatasetSource, Split, checked
from rfray.data.folders import data_folder, prepared_folder
from rfray.data.overlap import count_overlap, overlap_findings
from rfray.data.pictures import fitted, no_warnings
from rfray.data.remembered import memory_file, recall, remember
from rfray.data.torchvision_files import OpenSplit, open_splits, state_of
from rfray.data.torchvision_sets import TorchvisionSet
from rfray.data.treatment import Treatment, Treatments, treatment_findings
from rfray.errors import UserError
from rfray.terminal.telling import counted

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL.Image import Image
    from torch import Tensor

# Raise it when pictures are read, scaled or usually augmented otherwise: it is part of every key.
_VERSION = "torchvision-v1"
_AT_ONCE = 4096  # pictures that are handed to the threads together


def source(known: TorchvisionSet, image_size: int | None) -> DatasetSource:
    """A set of torchvision, its pictures scaled to `image_size` pixels a side; None leaves them.

    They are laid on the background in use.

    Raises:
        UserError: A file is missing, damaged or half extracted, a package is missing, or the
            pictures are not all square and of one size and `image_size` is None.
    """
    root, memory = data_folder().resolve(), prepared_folder()
    return _source(known, image_size, background_in_use(), root, memory)


@cache
def _source(
    known: TorchvisionSet, image_size: int | None, background: str | None, root: Path, memory: Path
) -> DatasetSource:
    label = known.name if image_size is None else f"{known.name}-{image_size}px"
    path = memory_file(memory, on_background(label, background), root)
    path.parent.mkdir(parents=True, exist_ok=True)
    # Others on this node wait rather than download, extract and read the same files.
    with FileLock(path.with_suffix(".lock")):
        facts = recall(path, _state(known, root))
        if facts is None:
            facts = _learnt(known, image_size, background, root, path)
    return DatasetSource(facts, partial(load, facts, known, image_size, background, root))


def _learnt(
    known: TorchvisionSet, image_size: int | None, background: str | None, root: Path, path: Path
) -> DatasetFacts:
    # The copy cannot be written without torch, which a plan that remembers the facts spares.
    from rfray.data.cache import prepared

    train, test = open_splits(known, root)
    state = _state(known, root)
    dataset = _read(train, test, image_size, background)
    prepared(DatasetSource(dataset.facts, lambda: dataset))
    remember(path, state, dataset.facts)
    return dataset.facts


def _state(known: TorchvisionSet, root: Path) -> str:
    return f"{_VERSION} {state_of(known, root)}"


def load(
    facts: DatasetFacts,
    known: TorchvisionSet,
    image_size: int | None,
    background: str | None,
    root: Path,
) -> Dataset:
    """Read all pictures below `root`.

    Raises:
        UserError: See `source`; or the pictures are others than those that gave the facts.
    """
    dataset = _read(*open_splits(known, root), image_size, background)
    if dataset.facts != facts:
        raise UserError(
            "its pictures have changed since the sweep was planned",
            where=known.name,
            do="start the sweep again",
        )
    return dataset


@no_warnings()
def _read(
    train: OpenSplit, test: OpenSplit, image_size: int | None, background: str | None
) -> Dataset:
    known = train.known
    shaped: Callable[[Image], NDArray[np.uint8]]
    if image_size is None:
        size = _own_size(train, background)
        shaped = partial(_as_it_is, known=known, size=size)
    else:
        size = image_size
        shaped = partial(fitted, size=size)
    treatments, decoded = Treatments(), []
    for split in (train, test):
        pictures, had = _decoded(split, size, shaped, background)
        decoded.append(pictures)
        treatments += had
    mean, deviation = _mean_and_deviation(decoded[0].images, known.name)
    facts = DatasetFacts(
        name=known.name,
        fingerprint=f"{known.name}-{_digest(decoded)}",
        classes=known.classes,
        image_size=size,
        train_images=len(train),
        test_images=len(test),
        mean=mean,
        deviation=deviation,
        augmentation=known.augmentation,
    )
    dataset = checked(Dataset(facts, *decoded))
    findings = (
        *treatment_findings(treatments, background),
        *overlap_findings(count_overlap(dataset), len(test)),
    )
    return replace(dataset, facts=replace(facts, findings=findings))


def _own_size(split: OpenSplit, background: str | None) -> int:
    """The side of the first picture; UserError if it is not square."""
    width, height = split.picture(0, background)[0].image.size
    if width != height:
        raise _cannot_stay(split.known, f"the first is {width}×{height} pixels, not square")
    return int(width)


def _as_it_is(picture: Image, known: TorchvisionSet, size: int) -> NDArray[np.uint8]:
    import numpy as np

    if picture.size != (size, size):
        width, height = picture.size
        raise _cannot_stay(known, f"one is {size}×{size} pixels, another {width}×{height}")
    return np.asarray(picture)


def _cannot_stay(known: TorchvisionSet, why: str) -> UserError:
    return UserError(
        f"its pictures have no size in common: {why}",
        where=known.name,
        do=f"say what to scale them to: 'data: {{image_size: 64}}', or '{known.name}@64'",
    )


def _decoded(
    split: OpenSplit,
    size: int,
    shaped: Callable[[Image], NDArray[np.uint8]],
    background: str | None,
) -> tuple[Split, Treatments]:
    """A split, and how many of its pictures had each treatment."""
    import numpy as np
    import torch

    images = np.empty((len(split), 3, size, size), dtype=np.uint8)
    labels = np.empty(len(split), dtype=np.int64)

    treatments = Treatments()

    def decode(place: int) -> frozenset[Treatment]:
        picture, labels[place] = split.picture(place, background)
        images[place] = shaped(picture.image).transpose(2, 0, 1)
        return picture.treatments

    # Pillow decodes and scales outside Python's lock.
    with ThreadPoolExecutor() as threads:
        done = (
            one
            for start in range(0, len(split), _AT_ONCE)
            for one in threads.map(decode, range(start, min(start + _AT_ONCE, len(split))))
        )
        for had in counted(done, len(split), f"reading {split.known.name}, {split.name} split"):
            treatments.update(had)
    return Split(torch.from_numpy(images), torch.from_numpy(labels)), treatments


def _mean_and_deviation(
    images: Tensor, name: str
) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    """Per-channel mean and standard deviation over all pixels, of 0 to 1, in float64.

    The sums behind them are exact, being sums of integers.
    """
    moments = [_moments(images[:, channel]) for channel in range(3)]
    (red, green, blue), deviations = zip(*moments, strict=True)
    if not all(deviations):
        raise UserError("all training pixels of a channel are equal", where=name)
    return (red, green, blue), deviations


def _moments(channel: Tensor) -> tuple[float, float]:
    import torch

    counts = torch.zeros(256, dtype=torch.int64)
    for part in channel.split(_AT_ONCE):
        counts += torch.bincount(part.flatten(), minlength=256)
    frequencies = counts.tolist()
    pixels = sum(frequencies)
    total = sum(value * count for value, count in enumerate(frequencies))
    squares = sum(value * value * count for value, count in enumerate(frequencies))
    spread = pixels * squares - total * total
    return total / (255 * pixels), math.sqrt(spread) / (255 * pixels)


def _digest(splits: list[Split]) -> str:
    """Digest of every pixel and label as they are trained on, in order."""
    content = hashlib.blake2b(_VERSION.encode(), digest_size=12)
    for split in splits:
        content.update(f"\n{tuple(split.images.shape)}\n".encode())
        content.update(split.labels.numpy().data)
        content.update(split.images.flatten().numpy().data)
    return content.hexdigest()
