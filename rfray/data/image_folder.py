"""A user's own pictures: `imagefolder/train/CLASS/*` and `imagefolder/test/CLASS/*` (or `val/`).

Facts and fingerprint come from the files. They are remembered beside the prepared copies, and read
anew once a file's name, size or time has changed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rfray.data.dataset import Dataset, DatasetFacts, DatasetSource, Split
from rfray.data.folders import data_folder, prepared_folder
from rfray.data.pictures import fitted, opened, square
from rfray.data.remembered import ENCODING, files_state, memory_file, recall, remember
from rfray.errors import UserError
from rfray.telling import counted

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

NAME = "imagefolder"
SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".webp", ".ppm", ".pgm", ".tif", ".tiff"})
_TEST_FOLDERS = ("test", "val")


@dataclass(frozen=True)
class Listing:
    """Which pictures a folder holds, before any is opened.

    Attributes:
        folder: The folder.
        classes: Their names in alphabetical order; the place is the label.
        train: Names below the folder and labels of the training pictures, sorted.
        test: The same of the test pictures.
    """

    folder: Path
    classes: tuple[str, ...]
    train: tuple[tuple[str, int], ...]
    test: tuple[tuple[str, int], ...]


def list_pictures(folder: Path) -> Listing:
    """List the pictures of a folder by split and class; other files and hidden ones are left out.

    Raises:
        UserError: A split is missing, a class has no picture, or the splits' classes differ.
    """
    train, test = _split_folder(folder, ("train",)), _split_folder(folder, _TEST_FOLDERS)
    classes = _class_names(train)
    for name in sorted({*classes} ^ {*_class_names(test)}):
        where = train if name in classes else test
        other = test if where is train else train
        raise UserError(f"the class '{name}' of {where.name}/ is missing", where=str(other))
    return Listing(folder, classes, *(_labelled(folder, split, classes) for split in (train, test)))


def _split_folder(folder: Path, names: Sequence[str]) -> Path:
    for name in names:
        if (folder / name).is_dir():
            return folder / name
    raise UserError(
        "there is no such folder",
        where=str(folder / names[0]),
        do=f"put pictures there, one folder a class: {names[0]}/CLASS/picture.png",
    )


def _class_names(split: Path) -> tuple[str, ...]:
    names = sorted(path.name for path in split.iterdir() if path.is_dir())
    visible = tuple(name for name in names if not name.startswith("."))
    if not visible:
        raise UserError("it holds no folder, one of which makes a class", where=str(split))
    return visible


def _labelled(folder: Path, split: Path, classes: Sequence[str]) -> tuple[tuple[str, int], ...]:
    labelled: list[tuple[str, int]] = []
    for label, name in enumerate(classes):
        pictures = sorted(
            path.name
            for path in (split / name).iterdir()
            if path.suffix.lower() in SUFFIXES and not path.name.startswith(".")
        )
        if not pictures:
            raise UserError("the class has no picture", where=str(split / name))
        prefix = (split / name).relative_to(folder).as_posix()
        labelled += [(f"{prefix}/{picture}", label) for picture in pictures]
    return tuple(labelled)


def read_facts(listing: Listing, image_size: int | None = None) -> DatasetFacts:
    """Facts of a folder, from reading and decoding every picture once.

    Mean and deviation are those of the training pixels, after scaling; the fingerprint digests the
    names, sizes and contents of all files, and names the image size if one is given.

    Args:
        listing: The pictures.
        image_size: What to scale them to, in pixels a side; None leaves them as they are.

    Raises:
        UserError: A picture is damaged; or, without `image_size`, it is not square or of another
            size than the first.
    """
    import numpy as np

    content_digest = _Digest()
    size = 0
    total, squares, pixels = np.zeros(3), np.zeros(3), 0
    for name, _, content in _contents(listing, (*listing.train, *listing.test)):
        content_digest.add(name, content)
        picture = _square(content, listing, name, size, image_size)
        size = len(picture)
        if name.startswith("train/"):
            scaled = picture.reshape(-1, 3) / 255
            total += scaled.sum(0)
            squares += np.square(scaled).sum(0)
            pixels += len(scaled)
    mean = total / pixels
    deviation = np.sqrt(np.maximum(squares / pixels - mean**2, 0))
    if not deviation.all():
        raise UserError("all training pixels of a channel are equal", where=str(listing.folder))
    return DatasetFacts(
        name=NAME,
        fingerprint=content_digest.fingerprint(image_size),
        classes=len(listing.classes),
        image_size=size,
        train_images=len(listing.train),
        test_images=len(listing.test),
        mean=_three(mean),
        deviation=_three(deviation),
    )


def _three(values: Iterable[Any]) -> tuple[float, float, float]:
    red, green, blue = (round(float(value), 4) for value in values)
    return red, green, blue


def _square(
    content: bytes, listing: Listing, name: str, size: int, image_size: int | None
) -> NDArray[np.uint8]:
    """The picture; `size` is that of those before it, 0 for the first."""
    path = str(listing.folder / name)
    picture = opened(content, path)
    if image_size is not None:
        return fitted(picture, image_size)
    return square(picture, path, size or picture.height, do=_SCALE)


_SCALE = "replace it, or have all pictures scaled: 'data: {image_size: 64}'"


def _contents(
    listing: Listing, labelled: Sequence[tuple[str, int]]
) -> Iterator[tuple[str, int, bytes]]:
    for name, label in counted(labelled, len(labelled), f"reading {listing.folder}"):
        yield name, label, (listing.folder / name).read_bytes()


class _Digest:
    """Digests files one by one, in order."""

    def __init__(self) -> None:
        self._hash = hashlib.blake2b(b"imagefolder-v1", digest_size=12)

    def add(self, name: str, content: bytes) -> None:
        self._hash.update(f"\n{name}\n{len(content)}\n".encode(*ENCODING))
        self._hash.update(content)

    def fingerprint(self, image_size: int | None) -> str:
        return f"{_label(image_size)}-{self._hash.hexdigest()}"


def _label(image_size: int | None) -> str:
    return NAME if image_size is None else f"{NAME}-{image_size}px"


def load(facts: DatasetFacts, listing: Listing, image_size: int | None = None) -> Dataset:
    """Read all pictures, and scale them to `image_size` if one is given.

    Raises:
        UserError: A file has changed since its facts were read.
    """
    content_digest = _Digest()
    train = _split(image_size, facts, listing, listing.train, content_digest)
    test = _split(image_size, facts, listing, listing.test, content_digest)
    if content_digest.fingerprint(image_size) != facts.fingerprint:
        raise UserError(
            "its pictures have changed since the sweep was planned",
            where=str(listing.folder),
            do="start the sweep again",
        )
    return Dataset(facts, train, test)


def _split(
    image_size: int | None,
    facts: DatasetFacts,
    listing: Listing,
    labelled: Sequence[tuple[str, int]],
    content_digest: _Digest,
) -> Split:
    import numpy as np
    import torch

    size = facts.image_size
    images = np.empty((len(labelled), 3, size, size), dtype=np.uint8)
    for place, (name, _, content) in enumerate(_contents(listing, labelled)):
        content_digest.add(name, content)
        pixels = _square(content, listing, name, size, image_size)
        images[place] = pixels.transpose(2, 0, 1)
    return Split(torch.from_numpy(images), torch.tensor([label for _, label in labelled]))


def image_folder(folder: Path, image_size: int | None = None) -> DatasetSource:
    """The pictures of `folder` as a data set; its facts are read once a process.

    Args:
        folder: The folder.
        image_size: What to scale the pictures to, in pixels a side; None leaves them as they are.

    Raises:
        UserError: See `list_pictures` and `read_facts`.
    """
    return _image_folder(folder.resolve(), prepared_folder(), image_size)


def source(image_size: int | None = None) -> DatasetSource:
    """The pictures in the data folder's `imagefolder`, which may be a link to another folder."""
    return image_folder(data_folder() / NAME, image_size)


@cache
def _image_folder(folder: Path, memory: Path, image_size: int | None) -> DatasetSource:
    listing = list_pictures(folder)
    state = files_state(folder, (name for name, _ in (*listing.train, *listing.test)))
    path = memory_file(memory, _label(image_size), folder)
    facts = recall(path, state)
    if facts is None:
        facts = read_facts(listing, image_size)
        remember(path, state, facts)
    return DatasetSource(facts, partial(load, facts, listing, image_size))
