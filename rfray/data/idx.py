"""MNIST, FashionMNIST and KMNIST, read from their published idx files.

Format and MNIST: LeCun, Cortes & Burges, http://yann.lecun.com/exdb/mnist. FashionMNIST: Xiao,
Rasul & Vollgraf, 2017. KMNIST: Clanuwat et al., 2018.

The MD5 of the unpacked contents is checked, so files that were compressed again are accepted:
reading this format runs no code. The MD5s of the compressed files, which torchvision checks, are
for downloads, and for KMNIST, for whose contents no checksum is published.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from rfray.data.dataset import Dataset, DatasetFacts, DatasetSource, Split
from rfray.data.facts import FACTS, FILES
from rfray.data.folders import data_folder
from rfray.data.published import PublishedFile, fetch, verify, verify_bytes
from rfray.errors import UserError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


_PARTS = ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1")


@dataclass(frozen=True)
class IdxFile:
    """One file of a data set.

    Attributes:
        packed: The published file, compressed.
        contents_md5: MD5 of its contents; None if it is not known.
    """

    packed: PublishedFile
    contents_md5: str | None


def files(name: str) -> tuple[IdxFile, ...]:
    """Images and labels for training, then those for the test, at torchvision's `NAME/raw/…`."""
    places = [f"{name}/raw/{part}-ubyte" for part in _PARTS]
    return tuple(
        IdxFile(FILES[f"{place}.gz"], FILES[place].md5 if place in FILES else None)
        for place in places
    )


def load(
    facts: DatasetFacts, published: Sequence[IdxFile], installed: Path | None = None
) -> Dataset:
    """Read the four idx files, compressed or unpacked; grey becomes three channels.

    Each is searched in the data folder, then in the folder of a system package, then downloaded.

    Args:
        facts: Its facts.
        published: See `files`.
        installed: The folder of a system package, if there is one.

    Raises:
        UserError: A file is missing or truncated, or its contents are not the published ones.
    """
    train_images, train_labels, test_images, test_labels = published
    return Dataset(
        facts,
        train=_split(train_images, train_labels, installed),
        test=_split(test_images, test_labels, installed),
    )


def _split(images: IdxFile, labels: IdxFile, installed: Path | None) -> Split:
    import torch

    grey = torch.from_numpy(_array(images, installed, 28, 28))
    return Split(
        grey.unsqueeze(1).expand(-1, 3, -1, -1).contiguous(),
        torch.from_numpy(_array(labels, installed)).long(),
    )


def _array(file: IdxFile, installed: Path | None, *shape: int) -> NDArray[np.uint8]:
    """A file's bytes after its header: four bytes, and four more for the length of each axis."""
    import numpy as np

    path = _place(file, installed)
    if file.contents_md5 is None:
        _verify_packed(file, path)
    content = _content(path)
    if file.contents_md5 is not None:
        verify_bytes(content, file.contents_md5, str(path))
    header = 8 + 4 * len(shape)
    return np.frombuffer(bytearray(content), dtype=np.uint8, offset=header).reshape(-1, *shape)


def _verify_packed(file: IdxFile, path: Path) -> None:
    if path.suffix != ".gz":
        raise UserError(
            "there is no published checksum of the unpacked file, so it cannot be verified",
            where=str(path),
            do=f"put the published {Path(file.packed.name).name} beside it",
        )
    verify(path, file.packed.md5)


def _place(file: IdxFile, installed: Path | None) -> Path:
    """The path of a file; it is downloaded if it is missing."""
    packed = data_folder() / file.packed.name
    places = [packed, packed.with_suffix("")]
    if installed is not None:
        places.append(installed / packed.name)
    found = next((place for place in places if place.is_file()), None)
    return found or fetch(file.packed, data_folder())


def _content(path: Path) -> bytes:
    content = path.read_bytes()
    if path.suffix != ".gz":
        return content
    try:
        return gzip.decompress(content)
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(
            f"it cannot be unpacked: {error}", where=str(path), do="put the published file there"
        ) from error


def source(name: str, installed: Path | None = None) -> DatasetSource:
    """A data set of this format; see `load`."""
    return DatasetSource(FACTS[name], partial(load, FACTS[name], files(name), installed))


# Debian's package dataset-fashion-mnist
DEBIANS_FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist")
MNIST_SOURCE = source("MNIST")
FASHION_MNIST_SOURCE = source("FashionMNIST", DEBIANS_FASHION_MNIST)
KMNIST_SOURCE = source("KMNIST")
