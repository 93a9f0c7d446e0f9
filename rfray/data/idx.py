"""MNIST and its likes, from the idx files that they are published as.

Format and MNIST: LeCun, Cortes & Burges, http://yann.lecun.com/exdb/mnist. FashionMNIST: Xiao,
Rasul & Vollgraf, 2017. KMNIST: Clanuwat et al., 2018. Mean and deviation are those of all training
pixels.

What is checked is the MD5 of the unpacked contents, so files that somebody compressed anew are
taken: reading this format runs no code. The MD5s of the compressed files, which torchvision checks
too, are for downloads, and for KMNIST, of whose contents no digest is published.
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
from rfray.data.published import PublishedFile, fetch, verify, verify_bytes
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
class IdxFile:
    """One file of a data set.

    Attributes:
        packed: The file as it is published, compressed.
        contents_md5: MD5 of what is in it; None where nobody knows it.
    """

    packed: PublishedFile
    contents_md5: str | None


@dataclass(frozen=True)
class IdxFiles:
    """The four files of a data set, and the folder that a system package puts them in, if any."""

    train_images: IdxFile
    train_labels: IdxFile
    test_images: IdxFile
    test_labels: IdxFile
    installed: Path | None = None


def files(
    name: str,
    mirrors: tuple[str, ...],
    md5s: tuple[str, str, str, str],
    contents: tuple[str, str, str, str] | None = None,
    installed: Path | None = None,
) -> IdxFiles:
    """The four files of `name` in torchvision's layout, `NAME/raw/…`.

    Args:
        name: Of the data set.
        mirrors: Folders on the web that offer the compressed files.
        md5s: MD5 of each compressed file, as published.
        contents: MD5 of what is in each; None where nobody knows it.
        installed: The folder that a system package puts them in, if there is one.
    """
    packed = (
        PublishedFile(f"{name}/raw/{file}", md5, tuple(mirror + file for mirror in mirrors))
        for file, md5 in zip(_NAMES, md5s, strict=True)
    )
    train_images, train_labels, test_images, test_labels = map(
        IdxFile, packed, contents or (None,) * 4
    )
    return IdxFiles(train_images, train_labels, test_images, test_labels, installed)


def load(facts: DatasetFacts, published: IdxFiles) -> Dataset:
    """Read the four idx files, compressed or unpacked; grey becomes three channels.

    Each is looked for in the data folder, then where a system package puts it, then downloaded.

    Raises:
        UserError: A file is missing, truncated or does not hold what the published one holds.
    """
    return Dataset(
        facts,
        train=_split(published, published.train_images, published.train_labels),
        test=_split(published, published.test_images, published.test_labels),
    )


def _split(published: IdxFiles, images: IdxFile, labels: IdxFile) -> Split:
    import torch

    grey = torch.from_numpy(_array(_place(published, images), images, dimensions=3))
    return Split(
        grey.unsqueeze(1).expand(-1, 3, -1, -1).contiguous(),
        torch.from_numpy(_array(_place(published, labels), labels, dimensions=1)).long(),
    )


def _place(published: IdxFiles, file: IdxFile) -> Path:
    """Where a file lies; it is downloaded if it lies nowhere."""
    root = data_folder()
    packed = root / file.packed.name
    places = [packed, packed.with_suffix("")]
    if published.installed is not None:
        places.append(published.installed / packed.name)
    return next((place for place in places if place.is_file()), None) or fetch(file.packed, root)


def _array(path: Path, file: IdxFile, dimensions: int) -> NDArray[np.uint8]:
    if file.contents_md5 is None:
        _refuse_unverifiable(path, file)
        verify(path, file.packed.md5)
    content = path.read_bytes()
    if path.suffix == ".gz":
        content = _unpacked(content, path)
    array = parse(content, str(path), dimensions)
    if file.contents_md5 is not None:
        verify_bytes(content, file.contents_md5, str(path))
    return array


def _refuse_unverifiable(path: Path, file: IdxFile) -> None:
    if path.suffix != ".gz":
        raise UserError(
            "there is no published checksum of the unpacked file, so it cannot be verified",
            where=str(path),
            do=f"put the published {Path(file.packed.name).name} beside it",
        )


def _unpacked(content: bytes, path: Path) -> bytes:
    try:
        return gzip.decompress(content)
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(
            f"it cannot be unpacked: {error}", where=str(path), do="put the published file there"
        ) from error


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
    contents=(
        "6bbc9ace898e44ae57da46a324031adb",
        "a25bea736e30d166cdddb491f175f624",
        "2646ac647ad5339dbf082846283269ea",
        "27ae3e4e09519cfbb04c329615203637",
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
    contents=(
        "f4a8712d7a061bf5bd6d2ca38dc4d50a",
        "9018921c3c673c538a1fc5bad174d6f9",
        "8181f5470baa50b63fa0f6fddb340f0a",
        "15d484375f8d13e6eb1aabb0c3f46965",
    ),
    installed=Path("/usr/share/datasets/fashion-mnist"),  # Debian's dataset-fashion-mnist
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
