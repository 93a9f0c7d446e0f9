"""CIFAR-10 and CIFAR-100, from the Python pickles that they are published as.

Source: Krizhevsky, *Learning Multiple Layers of Features from Tiny Images*, 2009,
https://www.cs.toronto.edu/~kriz/cifar.html. Checksums are those that torchvision checks.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from rfray.data.dataset import Dataset, DatasetFacts, DatasetSource, Split
from rfray.data.folders import data_folder
from rfray.data.published import PublishedArchive, PublishedFile, read_members
from rfray.errors import UserError


@dataclass(frozen=True)
class CifarLayout:
    """Which members of the archive hold which split, and under which key the labels stand."""

    published: PublishedArchive
    train: tuple[str, ...]
    test: tuple[str, ...]
    label_key: str


# Mean and deviation of all training pixels by channel, as most published code has them.
CIFAR10 = DatasetFacts(
    name="cifar10",
    fingerprint="cifar10-v1",
    classes=10,
    image_size=32,
    train_images=50_000,
    test_images=10_000,
    mean=(0.4914, 0.4822, 0.4465),
    deviation=(0.2470, 0.2435, 0.2616),
    augmentation="crop_flip",
)
CIFAR100 = DatasetFacts(
    name="cifar100",
    fingerprint="cifar100-v1",
    classes=100,
    image_size=32,
    train_images=50_000,
    test_images=10_000,
    mean=(0.5071, 0.4865, 0.4409),
    deviation=(0.2673, 0.2564, 0.2762),
    augmentation="crop_flip",
)
_BATCHES = tuple(f"cifar-10-batches-py/data_batch_{number}" for number in range(1, 6))
CIFAR10_LAYOUT = CifarLayout(
    PublishedArchive(
        PublishedFile(
            "cifar-10-python.tar.gz",
            "c58f30108f718f92721af3b95e74349a",
            ("https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",),
        ),
        (
            PublishedFile(_BATCHES[0], "c99cafc152244af753f735de768cd75f"),
            PublishedFile(_BATCHES[1], "d4bba439e000b95fd0a9bffe97cbabec"),
            PublishedFile(_BATCHES[2], "54ebc095f3ab1f0389bbae665268c751"),
            PublishedFile(_BATCHES[3], "634d18415352ddfa80567beed471001a"),
            PublishedFile(_BATCHES[4], "482c414d41f54cd18b22e5b47cb7c3cb"),
            PublishedFile("cifar-10-batches-py/test_batch", "40351d587109b95175f43aff81a1287e"),
        ),
    ),
    train=_BATCHES,
    test=("cifar-10-batches-py/test_batch",),
    label_key="labels",
)
CIFAR100_LAYOUT = CifarLayout(
    PublishedArchive(
        PublishedFile(
            "cifar-100-python.tar.gz",
            "eb9058c3a382ffc7106e4002c42a8d85",
            ("https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz",),
        ),
        (
            PublishedFile("cifar-100-python/train", "16019d7e3df5f24257cddd939b257f8d"),
            PublishedFile("cifar-100-python/test", "f0ef6b0ae62326f3e7ffdfab6717acfc"),
        ),
    ),
    train=("cifar-100-python/train",),
    test=("cifar-100-python/test",),
    label_key="fine_labels",
)


def load(facts: DatasetFacts, layout: CifarLayout) -> Dataset:
    """Read a CIFAR data set from the data folder.

    Raises:
        UserError: A file is missing or is not the published one.
    """
    contents = read_members(layout.published, data_folder())
    return Dataset(
        facts,
        train=_split([_batch(contents, name, layout.label_key) for name in layout.train]),
        test=_split([_batch(contents, name, layout.label_key) for name in layout.test]),
    )


def _batch(contents: Mapping[str, bytes], name: str, label_key: str) -> tuple[Any, list[int]]:
    try:
        batch = _BatchUnpickler(io.BytesIO(contents[name]), encoding="latin1").load()
        return batch["data"], batch[label_key]
    except (pickle.UnpicklingError, EOFError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"no CIFAR batch: {error}", where=name) from error


def _split(batches: list[tuple[Any, list[int]]]) -> Split:
    """Rows of 3,072 bytes: red, green and blue, each row by row."""
    import numpy as np
    import torch

    rows = np.concatenate([np.asarray(data, dtype=np.uint8) for data, _ in batches])
    size = round((rows.shape[1] / 3) ** 0.5)
    images = torch.from_numpy(rows).view(-1, 3, size, size)
    return Split(images, torch.tensor([label for _, labels in batches for label in labels]))


class _BatchUnpickler(pickle.Unpickler):
    """Reconstructs arrays, and what pickle has opcodes for, and refuses every other object.

    The bytes were verified against their published checksum before; this is the second lock.
    """

    def find_class(self, module: str, name: str) -> Any:
        """The three names that a pickled array needs; UnpicklingError for any other."""
        import numpy as np

        reconstruct: Callable[..., Any] = np.empty(0).__reduce__()[0]  # type: ignore[assignment]
        allowed = {
            ("numpy.core.multiarray", "_reconstruct"): reconstruct,
            ("numpy", "ndarray"): np.ndarray,
            ("numpy", "dtype"): np.dtype,
        }
        try:
            return allowed[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"it wants to create a {module}.{name}") from None


def source(facts: DatasetFacts, layout: CifarLayout) -> DatasetSource:
    """A data set of this format."""
    return DatasetSource(facts, partial(load, facts, layout))


CIFAR10_SOURCE = source(CIFAR10, CIFAR10_LAYOUT)
CIFAR100_SOURCE = source(CIFAR100, CIFAR100_LAYOUT)
