"""Data sets that come as arrays: CIFAR, MNIST and its likes, STL-10, SVHN.

torchvision's classes for them read extracted files only, need a folder that they may write, and
unpickle any object. So these are read here: in the archive or extracted, verified, without writing.
"""

import gzip
import io
import pickle
import zlib
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from rfray.data.dataset import Dataset, DatasetFacts, DatasetSource, Split
from rfray.data.facts import FACTS, FILES, archive
from rfray.data.folders import data_folder
from rfray.data.published import (
    PublishedArchive,
    PublishedFile,
    fetch,
    provide,
    read_members,
    verify,
    verify_bytes,
)
from rfray.errors import UserError


def cifar(facts: DatasetFacts, published: PublishedArchive, label_key: str) -> Dataset:
    """CIFAR-10 or CIFAR-100, from Python pickles, of which the last is the test split.

    Source: Krizhevsky, *Learning Multiple Layers of Features from Tiny Images*, 2009,
    https://www.cs.toronto.edu/~kriz/cifar.html.

    Raises:
        UserError: A file is missing or is not the published one.
    """
    contents = read_members(published, data_folder())
    *train, test = (_batch(content, name, label_key) for name, content in contents.items())
    return Dataset(facts, train=_rows(train), test=_rows([test]))


def _batch(content: bytes, name: str, label_key: str) -> tuple[Any, list[int]]:
    try:
        batch = _BatchUnpickler(io.BytesIO(content), encoding="latin1").load()
        return batch["data"], batch[label_key]
    except (pickle.UnpicklingError, EOFError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"not a CIFAR batch: {error}", where=name) from error


def _rows(batches: Sequence[tuple[Any, list[int]]]) -> Split:
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


def idx(
    facts: DatasetFacts, published: Sequence[PublishedFile], installed: Path | None = None
) -> Dataset:
    """MNIST, FashionMNIST or KMNIST; grey becomes three channels.

    Format and MNIST: LeCun, Cortes & Burges, http://yann.lecun.com/exdb/mnist. FashionMNIST: Xiao,
    Rasul & Vollgraf, 2017. KMNIST: Clanuwat et al., 2018.

    Args:
        facts: Its facts.
        published: Compressed images and labels for training, then those for the test.
        installed: The folder of a system package that may have the files, too.

    Raises:
        UserError: A file is missing or truncated, or its contents are not the published ones.
    """
    import torch

    train_x, train_y, test_x, test_y = (_unpacked(file, installed) for file in published)

    def split(images: bytearray, labels: bytearray) -> Split:
        # After four bytes, and four more for the length of each axis.
        grey = torch.frombuffer(images, dtype=torch.uint8, offset=16).view(-1, 1, 28, 28)
        return Split(
            grey.expand(-1, 3, -1, -1).contiguous(),
            torch.frombuffer(labels, dtype=torch.uint8, offset=8).long(),
        )

    return Dataset(facts, train=split(train_x, train_y), test=split(test_x, test_y))


def _unpacked(file: PublishedFile, installed: Path | None) -> bytearray:
    """The contents of a file, which may be unpacked already, or in the folder of a system package.

    If their MD5 is published, it is the one that counts, so files that were compressed again are
    accepted: reading this format runs no code.
    """
    packed = data_folder() / file.name
    places = [packed, packed.with_suffix("")]
    if installed is not None:
        places.append(installed / packed.name)
    path = next((place for place in places if place.is_file()), None) or fetch(file, data_folder())
    is_packed = path.suffix == ".gz"
    if not file.contents_md5 and not is_packed:
        raise UserError(
            "there is no published checksum of the unpacked file, so it cannot be verified",
            where=str(path),
            do=f"put the published {packed.name} beside it",
        )
    if not file.contents_md5:
        verify(path, file.md5)
    try:
        content = gzip.decompress(path.read_bytes()) if is_packed else path.read_bytes()
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise UserError(
            f"it cannot be unpacked: {error}", where=str(path), do="put the published file there"
        ) from error
    if file.contents_md5:
        verify_bytes(content, file.contents_md5, str(path))
    return bytearray(content)


def stl10(facts: DatasetFacts, published: PublishedArchive) -> Dataset:
    """STL-10's labelled pictures; the members are images and labels by split.

    Each picture is stored column by column, and labels count from 1.

    Source: Coates, Lee & Ng, 2011, https://cs.stanford.edu/~acoates/stl10.

    Raises:
        UserError: A file is missing or is not the published one.
    """
    import torch

    train_x, train_y, test_x, test_y = (
        torch.frombuffer(bytearray(content), dtype=torch.uint8)
        for content in read_members(published, data_folder()).values()
    )
    train, test = (
        Split(pixels.view(-1, 3, 96, 96).transpose(2, 3).contiguous(), labels.long() - 1)
        for pixels, labels in ((train_x, train_y), (test_x, test_y))
    )
    return Dataset(facts, train, test)


def svhn(facts: DatasetFacts, train: PublishedFile, test: PublishedFile) -> Dataset:
    """SVHN's cropped digits, from MATLAB files; the label 10 means the digit 0.

    Source: Netzer et al., 2011, http://ufldl.stanford.edu/housenumbers.

    Raises:
        UserError: A file is missing or not the published one.
    """
    import torch
    from scipy.io import loadmat

    def split(published: PublishedFile) -> Split:
        table = loadmat(provide(published, data_folder()))
        images = torch.from_numpy(table["X"]).permute(3, 2, 0, 1).contiguous()
        return Split(images, torch.from_numpy(table["y"]).long().flatten() % 10)

    return Dataset(facts, split(train), split(test))


CIFAR10 = archive("cifar-10-python.tar.gz", "cifar-10-batches-py")
CIFAR100 = archive("cifar-100-python.tar.gz", "cifar-100-python")
STL10 = archive("stl10_binary.tar.gz", "stl10_binary")
SVHN = (FILES["SVHN/train_32x32.mat"], FILES["SVHN/test_32x32.mat"])
# Debian's package dataset-fashion-mnist
DEBIANS_FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist")


def idx_files(name: str) -> tuple[PublishedFile, ...]:
    """Images and labels for training, then those for the test, at torchvision's `NAME/raw/…`."""
    parts = ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1")
    return tuple(FILES[f"{name}/raw/{part}-ubyte.gz"] for part in parts)


def _source(name: str, load: Callable[..., Dataset], *published: Any) -> DatasetSource:
    return DatasetSource(FACTS[name], partial(load, FACTS[name], *published))


SOURCES: Mapping[str, DatasetSource] = {
    "cifar10": _source("cifar10", cifar, CIFAR10, "labels"),
    "cifar100": _source("cifar100", cifar, CIFAR100, "fine_labels"),
    "FashionMNIST": _source("FashionMNIST", idx, idx_files("FashionMNIST"), DEBIANS_FASHION_MNIST),
    "KMNIST": _source("KMNIST", idx, idx_files("KMNIST")),
    "MNIST": _source("MNIST", idx, idx_files("MNIST")),
    "STL10": _source("STL10", stl10, STL10),
    "SVHN": _source("SVHN", svhn, *SVHN),
}
"""The sources by their names."""
