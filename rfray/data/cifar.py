"""CIFAR-10 and CIFAR-100, read from their published Python pickles.

Source: Krizhevsky, *Learning Multiple Layers of Features from Tiny Images*, 2009,
https://www.cs.toronto.edu/~kriz/cifar.html.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable
from functools import partial
from typing import Any

from rfray.data.dataset import Dataset, DatasetFacts, DatasetSource, Split
from rfray.data.facts import FACTS, archive
from rfray.data.folders import data_folder
from rfray.data.published import PublishedArchive, read_members
from rfray.errors import UserError


def load(facts: DatasetFacts, published: PublishedArchive, label_key: str) -> Dataset:
    """Read a CIFAR data set from the data folder.

    Args:
        facts: Its facts.
        published: The batches; the last is the test split.
        label_key: The key of the labels in a batch.

    Raises:
        UserError: A file is missing or is not the published one.
    """
    contents = read_members(published, data_folder())
    *train, test = (_batch(content, name, label_key) for name, content in contents.items())
    return Dataset(facts, train=_split(train), test=_split([test]))


def _batch(content: bytes, name: str, label_key: str) -> tuple[Any, list[int]]:
    try:
        batch = _BatchUnpickler(io.BytesIO(content), encoding="latin1").load()
        return batch["data"], batch[label_key]
    except (pickle.UnpicklingError, EOFError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"not a CIFAR batch: {error}", where=name) from error


def _split(batches: list[tuple[Any, list[int]]]) -> Split:
    """The images of rows of 3,072 bytes: red, green and blue, each row by row."""
    import numpy as np
    import torch

    rows = np.concatenate([np.asarray(data, dtype=np.uint8) for data, _ in batches])
    images = torch.from_numpy(rows).view(-1, 3, 32, 32)
    return Split(images, torch.tensor([label for _, labels in batches for label in labels]))


class _BatchUnpickler(pickle.Unpickler):
    """Reconstructs arrays and the basic types of pickle, and refuses every other object.

    The bytes have been verified against their published checksum; this is a second protection.
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


CIFAR10 = archive("cifar-10-python.tar.gz", "cifar-10-batches-py")
CIFAR100 = archive("cifar-100-python.tar.gz", "cifar-100-python")
CIFAR10_SOURCE = DatasetSource(FACTS["cifar10"], partial(load, FACTS["cifar10"], CIFAR10, "labels"))
CIFAR100_SOURCE = DatasetSource(
    FACTS["cifar100"], partial(load, FACTS["cifar100"], CIFAR100, "fine_labels")
)
