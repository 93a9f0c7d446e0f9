"""Tiny ImageNet: 200 classes of 64×64 pixels, from its zip file or the folder extracted from it.

Source: Stanford CS231n, http://cs231n.stanford.edu/tiny-imagenet-200.zip. The labels of its own
test pictures were never published, so its official validation pictures are the test split here.
"""

from __future__ import annotations

import zipfile
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from rfray.data.dataset import Dataset, DatasetFacts, DatasetSource
from rfray.data.decoding import Entry, OpenSplit, decoded
from rfray.data.facts import FACTS, FILES
from rfray.data.folders import data_folder
from rfray.data.pictures import other_size, shown
from rfray.data.published import PublishedFile, provide
from rfray.errors import UserError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

FOLDER = "tiny-imagenet-200"

UNVERIFIED = (
    f"the extracted folder {FOLDER} cannot be verified: its pictures have no published checksum, "
    "the zip file has one"
)

_AGAIN = "extract tiny-imagenet-200.zip again, or put the zip file itself next to the folder"


class _Tree:
    """The extracted folder, or the zip file as if it were extracted.

    Attributes:
        where: Its name in messages.
        pictures: Names of the picture files of each folder, sorted.
    """

    def __init__(self, where: Path, names: Iterable[str], content: Callable[[str], bytes]) -> None:
        self.where, self._content = str(where), content
        self.pictures: Mapping[str, list[str]] = defaultdict(list)
        for name in sorted(name for name in names if name.endswith(".JPEG")):
            self.pictures[name.rpartition("/")[0]].append(name)

    def read(self, name: str) -> bytes:
        """A file's content, by its name below the tree; UserError if there is no such file."""
        try:
            return self._content(name)
        except (KeyError, FileNotFoundError):
            raise UserError(
                f"half extracted: {name} is missing", where=self.where, do=_AGAIN
            ) from None

    def lines(self, name: str) -> list[str]:
        """A text file's lines, without the empty ones."""
        return [line for line in self.read(name).decode("ascii", "replace").splitlines() if line]

    def expect(self, what: str, found: int, expected: int, unit: str = "pictures") -> None:
        """UserError unless the two numbers are equal."""
        if found != expected:
            raise UserError(
                f"half extracted: {what} holds {found} {unit}, expected {expected}",
                where=self.where,
                do=_AGAIN,
            )


def load(facts: DatasetFacts, archive: PublishedFile) -> Dataset:
    """Read Tiny ImageNet from the data folder.

    The zip file is read without extraction. If it is missing, the extracted folder is read; if that
    is missing too, the zip file is downloaded.

    Raises:
        UserError: The zip file is not the published one, the folder is half extracted, or a picture
            is damaged.
    """
    folder = data_folder() / FOLDER
    if folder.is_dir() and not (data_folder() / archive.name).is_file():
        names = (path.relative_to(folder).as_posix() for path in folder.rglob("*.JPEG"))
        tree = _Tree(folder, names, lambda name: (folder / name).read_bytes())
        return _read(tree, replace(facts, findings=(UNVERIFIED,)))
    path = provide(archive, data_folder())
    with zipfile.ZipFile(path) as packed:
        names = (name.removeprefix(f"{FOLDER}/") for name in packed.namelist())
        return _read(_Tree(path, names, lambda name: packed.read(f"{FOLDER}/{name}")), facts)


def _read(tree: _Tree, facts: DatasetFacts) -> Dataset:
    wnids = tree.lines("wnids.txt")
    if len(set(wnids)) != facts.classes:
        raise UserError(
            f"wnids.txt names {len(set(wnids))} classes, expected {facts.classes}",
            where=tree.where,
            do=_AGAIN,
        )
    classes = {wnid: number for number, wnid in enumerate(wnids)}
    train, test = _training(tree, facts, classes), _validation(tree, facts, classes)

    def split(labelled: Sequence[tuple[str, int]]) -> OpenSplit:
        return OpenSplit(facts.name, len(labelled), partial(_entry, tree, labelled))

    size = facts.image_size
    shaped = partial(_as_published, size=size)
    return Dataset(facts, *(decoded(split(one), size, shaped) for one in (train, test)))


def _training(
    tree: _Tree, facts: DatasetFacts, classes: Mapping[str, int]
) -> list[tuple[str, int]]:
    """Names and labels of the training pictures, class by class."""
    labelled: list[tuple[str, int]] = []
    for wnid, number in classes.items():
        folder = f"train/{wnid}/images"
        names = tree.pictures[folder]
        tree.expect(folder, len(names), facts.train_images // facts.classes)
        labelled += [(name, number) for name in names]
    return labelled


def _validation(
    tree: _Tree, facts: DatasetFacts, classes: Mapping[str, int]
) -> list[tuple[str, int]]:
    """The official validation pictures, in the order of their annotation file."""
    table = "val/val_annotations.txt"
    rows = [line.split("\t") for line in tree.lines(table)]
    tree.expect(table, len(rows), facts.test_images, "rows")
    tree.expect("val/images", len(tree.pictures["val/images"]), facts.test_images)
    for row in rows:
        if len(row) < 2 or row[1] not in classes:
            raise UserError(f"{table} names an unknown class: {row}", where=tree.where, do=_AGAIN)
    return [(f"val/images/{row[0]}", classes[row[1]]) for row in rows]


def _entry(tree: _Tree, labelled: Sequence[tuple[str, int]], place: int) -> Entry:
    name, label = labelled[place]
    where = f"{tree.where}/{name}"
    return Entry(shown(tree.read(name), where), label, where)


def _as_published(entry: Entry, size: int) -> NDArray[np.uint8]:
    """A picture; UserError if its pixels would have to be changed: no published one needs that."""
    import numpy as np

    if entry.shown.manner:
        raise UserError(
            f"not a published picture: it would have to be {entry.shown.manner}",
            where=entry.where,
            do=_AGAIN,
        )
    image = entry.shown.image
    if image.size != (size, size):
        raise other_size(entry.where, *image.size, size, do=_AGAIN)
    return np.asarray(image)


ARCHIVE = FILES["tiny-imagenet-200.zip"]
SOURCE = DatasetSource(FACTS["tiny_imagenet"], partial(load, FACTS["tiny_imagenet"], ARCHIVE))
