"""MNIST and its likes, from the idx files that they are published as.

Format and MNIST: LeCun, Cortes & Burges, http://yann.lecun.com/exdb/mnist. FashionMNIST: Xiao,
Rasul & Vollgraf, 2017. KMNIST: Clanuwat et al., 2018. Checksums are those that torchvision checks.
Mean and deviation are those of all training pixels.
"""

from __future__ import annotations

import gzip
import math
import zlib
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from rfray.data.dataset import Dataset, DatasetFacts, DatasetSource, Split
from rfray.data.folders import data_folder
from rfray.data.published import PublishedFile, fetch, verify
from rfray.errors import UserError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_UNSIGNED_BYTE = 8
_MNIST_MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "http://yann.lecun.com/exdb/mnist/",
)
_FASHION_MIRRORS = ("http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",)
_KUZUSHIJI_MIRRORS = ("http://codh.rois.ac.jp/kmnist/dataset/kmnist/",)
_NAMES = (
    "train-images-idx3-ubyte.gz",
    "train-labels-idx1-ubyte.gz",
    "t10k-images-idx3-ubyte.gz",
    "t10k-labels-idx1-ubyte.gz",
)


@dataclass(frozen=True)
class IdxFiles:
    """The four files, compressed as they are published."""

    train_images: PublishedFile
    train_labels: PublishedFile
    test_images: PublishedFile
    test_labels: PublishedFile


def files(name: str, mirrors: tuple[str, ...], md5s: tuple[str, str, str, str]) -> IdxFiles:
    """The four files of `name` in torchvision's layout, `NAME/raw/…`, with their checksums."""
    return IdxFiles(
        *(
            PublishedFile(f"{name}/raw/{file}", md5, tuple(mirror + file for mirror in mirrors))
            for file, md5 in zip(_NAMES, md5s, strict=True)
        )
    )


def load(facts: DatasetFacts, published: IdxFiles) -> Dataset:
    """Read the four idx files, as published (.gz) or unpacked; grey becomes three channels.

    Raises:
        UserError: A file is missing, truncated or not the published one.
    """
    root = data_folder()
    return Dataset(
        facts,
        train=_split(root, published.train_images, published.train_labels),
        test=_split(root, published.test_images, published.test_labels),
    )


def _split(root: Path, images: PublishedFile, labels: PublishedFile) -> Split:
    import torch

    grey = torch.from_numpy(_array(root, images, dimensions=3))
    return Split(
        grey.unsqueeze(1).expand(-1, 3, -1, -1).contiguous(),
        torch.from_numpy(_array(root, labels, dimensions=1)).long(),
    )


def _array(root: Path, published: PublishedFile, dimensions: int) -> NDArray[np.uint8]:
    packed = root / published.name
    unpacked = packed.with_suffix("")
    if not packed.is_file() and unpacked.is_file():
        return parse(unpacked.read_bytes(), str(unpacked), dimensions)
    if not packed.is_file():
        fetch(published, root)
    verify(packed, published.md5)
    try:
        return parse(gzip.decompress(packed.read_bytes()), str(packed), dimensions)
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"it cannot be unpacked: {error}", where=str(packed)) from error


def parse(content: bytes, name: str, dimensions: int) -> NDArray[np.uint8]:
    """An idx file of unsigned bytes as an array of `dimensions` axes.

    The format: two zero bytes, the element type, the number of axes, each axis' length as four
    bytes with the highest first, then the elements.

    Args:
        content: The unpacked file.
        name: What to call it in a message.
        dimensions: Number of axes that it must have.

    Raises:
        UserError: It is no such file, or its length is not what its header says.
    """
    import numpy as np

    header = 4 * (1 + dimensions)
    if len(content) < header or content[:4] != bytes([0, 0, _UNSIGNED_BYTE, dimensions]):
        raise UserError(
            f"no idx file of unsigned bytes with {dimensions} axes", where=name, do=_AGAIN
        )
    shape = tuple(int(length) for length in np.frombuffer(content[4:header], dtype=">u4"))
    found, expected = len(content) - header, math.prod(shape)
    if found != expected:
        raise UserError(
            f"truncated: {found:,} bytes after the header, expected {expected:,}",
            where=name,
            do=_AGAIN,
        )
    return np.frombuffer(bytearray(content), dtype=np.uint8, offset=header).reshape(shape)


_AGAIN = "delete it and put the published .gz file there"


def facts_of(name: str, mean: float, deviation: float) -> DatasetFacts:
    """Facts of a data set of MNIST's sizes, by its mean and deviation over all training pixels."""
    return DatasetFacts(
        name=name,
        fingerprint=f"{name}-v1",
        classes=10,
        image_size=28,
        train_images=60_000,
        test_images=10_000,
        mean=(mean, mean, mean),
        deviation=(deviation, deviation, deviation),
    )


def source(facts: DatasetFacts, published: IdxFiles) -> DatasetSource:
    """A data set of this format."""
    return DatasetSource(facts, partial(load, facts, published))


MNIST_FILES = files(
    "MNIST",
    _MNIST_MIRRORS,
    (
        "f68b3c2dcbeaaa9fbdd348bbdeb94873",
        "d53e105ee54ea40749a09fcbcd1e9432",
        "9fb629c4189551a2d022fa330f9573f3",
        "ec29112dd5afa0611ce80d1b7f02629c",
    ),
)
FASHION_MNIST_FILES = files(
    "FashionMNIST",
    _FASHION_MIRRORS,
    (
        "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
        "25c81989df183df01b3e8a0aad5dffbe",
        "bef4ecab320f06d8554ea6380940ec79",
        "bb300cfdad3c16e7a12a480ee83cd310",
    ),
)
KMNIST_FILES = files(
    "KMNIST",
    _KUZUSHIJI_MIRRORS,
    (
        "bdb82020997e1d708af4cf47b453dcf7",
        "e144d726b3acfaa3e44228e80efcd344",
        "5c965bf0a639b31b8f53240b1b52f4d7",
        "7320c461ea6c1c855c0b718fb2a4b134",
    ),
)
MNIST_SOURCE = source(facts_of("MNIST", 0.1307, 0.3081), MNIST_FILES)
FASHION_MNIST_SOURCE = source(facts_of("FashionMNIST", 0.2860, 0.3530), FASHION_MNIST_FILES)
KMNIST_SOURCE = source(facts_of("KMNIST", 0.1918, 0.3483), KMNIST_FILES)
