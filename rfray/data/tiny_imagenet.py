"""Tiny ImageNet: 200 classes of 64×64 pixels, from its zip file or the folder extracted from it.

Source: Stanford CS231n, http://cs231n.stanford.edu/tiny-imagenet-200.zip (248,100,043 bytes). The
labels of its own test pictures were never published, so its official validation pictures are the
test split here.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from rfray.data.dataset import Dataset, DatasetFacts, DatasetSource, Split
from rfray.data.folders import data_folder
from rfray.data.pictures import no_warnings, shown, square
from rfray.data.published import PublishedFile, fetch, verify
from rfray.errors import UserError
from rfray.terminal.telling import counted

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

FOLDER = "tiny-imagenet-200"

# Mean and deviation of all training pixels by channel.
FACTS = DatasetFacts(
    name="tiny_imagenet",
    fingerprint="tiny_imagenet-v1",
    classes=200,
    image_size=64,
    train_images=100_000,
    test_images=10_000,
    mean=(0.4802, 0.4481, 0.3975),
    deviation=(0.2770, 0.2691, 0.2821),
    augmentation="resized_crop_flip",
)
ARCHIVE = PublishedFile(
    "tiny-imagenet-200.zip",
    "90528d7ca1a48142e341f4ef8d21d0de",
    ("http://cs231n.stanford.edu/tiny-imagenet-200.zip",),
)

UNVERIFIED = (
    f"the extracted folder {FOLDER} is taken as it lies there: its pictures have no published "
    "checksum, the zip file has one"
)

Labelled = tuple[str, int]
"""A picture's name in the tree, and its class."""


@dataclass(frozen=True)
class _Tree:
    """The extracted folder, or the zip file as if it were extracted.

    Attributes:
        where: What to call it in a message.
        pictures: Names of the picture files of each folder, sorted.
        read: Content of a file, by its name below the tree; KeyError if there is none.
    """

    where: str
    pictures: Callable[[str], Sequence[str]]
    read: Callable[[str], bytes]


def load(facts: DatasetFacts, archive: PublishedFile) -> Dataset:
    """Read Tiny ImageNet from the data folder.

    The zip file is read without being extracted; where there is none, the extracted folder is;
    where there is neither, the zip file is downloaded.

    Raises:
        UserError: The zip file is not the published one, the folder is half extracted, or a picture
            is damaged.
    """
    root = data_folder()
    packed = root / archive.name
    with ExitStack() as stack:
        if not packed.is_file() and (root / FOLDER).is_dir():
            tree = _folder_tree(root / FOLDER)
            facts = replace(facts, findings=(UNVERIFIED,))
        else:
            if not packed.is_file():
                fetch(archive, root)
            verify(packed, archive.md5)
            tree = _zip_tree(packed, stack.enter_context(_opened(packed)))
        classes = _classes(tree, facts)
        train, test = _training(tree, facts, classes), _validation(tree, facts, classes)
        return Dataset(facts, _split(tree, train, facts), _split(tree, test, facts))


def _folder_tree(folder: Path) -> _Tree:
    def pictures(name: str) -> Sequence[str]:
        return sorted(path.name for path in (folder / name).glob("*.JPEG"))

    def read(name: str) -> bytes:
        try:
            return (folder / name).read_bytes()
        except FileNotFoundError:
            raise KeyError(name) from None

    return _Tree(str(folder), pictures, read)


def _opened(path: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(path)
    except zipfile.BadZipFile as error:
        raise UserError(f"the archive cannot be read: {error}", where=str(path)) from error


def _zip_tree(path: Path, packed: zipfile.ZipFile) -> _Tree:
    folders: dict[str, list[str]] = {}
    for entry in packed.namelist():
        folder, _, name = entry.removeprefix(f"{FOLDER}/").rpartition("/")
        if name.endswith(".JPEG"):
            folders.setdefault(folder, []).append(name)

    def pictures(name: str) -> Sequence[str]:
        return sorted(folders.get(name, []))

    def read(name: str) -> bytes:
        try:
            return packed.read(f"{FOLDER}/{name}")
        except (zipfile.BadZipFile, zlib.error) as error:
            raise UserError(f"'{name}' in it is damaged: {error}", where=str(path)) from error

    return _Tree(str(path), pictures, read)


def _classes(tree: _Tree, facts: DatasetFacts) -> Mapping[str, int]:
    """Each class's number by its WordNet name, in the order of wnids.txt."""
    names = _lines(tree, "wnids.txt")
    if len(set(names)) != facts.classes:
        raise UserError(
            f"wnids.txt names {len(set(names))} classes, expected {facts.classes}",
            where=tree.where,
            do=_AGAIN,
        )
    return {name: number for number, name in enumerate(names)}


def _training(tree: _Tree, facts: DatasetFacts, classes: Mapping[str, int]) -> list[Labelled]:
    expected = facts.train_images // facts.classes
    labelled: list[Labelled] = []
    for wnid, number in classes.items():
        folder = f"train/{wnid}/images"
        names = tree.pictures(folder)
        if len(names) != expected:
            raise _incomplete(tree, folder, len(names), expected)
        labelled += [(f"{folder}/{name}", number) for name in names]
    return labelled


def _validation(tree: _Tree, facts: DatasetFacts, classes: Mapping[str, int]) -> list[Labelled]:
    """The official validation pictures, in the order of their annotation file."""
    table = "val/val_annotations.txt"
    rows = [line.split("\t") for line in _lines(tree, table)]
    if len(rows) != facts.test_images:
        raise _incomplete(tree, table, len(rows), facts.test_images, "rows")
    names = tree.pictures("val/images")
    if len(names) != facts.test_images:
        raise _incomplete(tree, "val/images", len(names), facts.test_images)
    for row in rows:
        if len(row) < 2 or row[1] not in classes:
            raise UserError(f"{table} names an unknown class: {row}", where=tree.where, do=_AGAIN)
    return [(f"val/images/{row[0]}", classes[row[1]]) for row in rows]


def _incomplete(
    tree: _Tree, what: str, found: int, expected: int, unit: str = "pictures"
) -> UserError:
    return UserError(
        f"half extracted: {what} holds {found} {unit}, expected {expected}",
        where=tree.where,
        do=_AGAIN,
    )


_AGAIN = "extract tiny-imagenet-200.zip again, or put the zip file itself beside the folder"


def _lines(tree: _Tree, name: str) -> list[str]:
    return [line for line in _read(tree, name).decode("ascii", "replace").splitlines() if line]


def _read(tree: _Tree, name: str) -> bytes:
    try:
        return tree.read(name)
    except KeyError:
        raise UserError(f"half extracted: {name} is missing", where=tree.where, do=_AGAIN) from None


@no_warnings()
def _split(tree: _Tree, labelled: Sequence[Labelled], facts: DatasetFacts) -> Split:
    import numpy as np
    import torch

    size = facts.image_size
    images = np.empty((len(labelled), 3, size, size), dtype=np.uint8)
    pictures = counted(labelled, len(labelled), f"reading {facts.name}")
    for place, (name, _) in enumerate(pictures):
        path = f"{tree.where}/{name}"
        images[place] = _as_published(_read(tree, name), path, size).transpose(2, 0, 1)
    return Split(torch.from_numpy(images), torch.tensor([label for _, label in labelled]))


def _as_published(content: bytes, path: str, size: int) -> NDArray[np.uint8]:
    """A picture; UserError if its pixels are to be changed: those of no published one are."""
    picture = shown(content, path)
    if picture.manner:
        raise UserError(
            f"no published picture: it would have to be {picture.manner}", where=path, do=_AGAIN
        )
    return square(picture.image, path, size)


def source(facts: DatasetFacts, archive: PublishedFile) -> DatasetSource:
    """A data set of this format."""
    return DatasetSource(facts, partial(load, facts, archive))


SOURCE = source(FACTS, ARCHIVE)
