"""A user's own pictures: `imagefolder/train/CLASS/…` and `imagefolder/test/CLASS/…` (or `val/`).

The fingerprint contains a digest of the names, sizes and contents of all files and of the changes
to their pixels, and the image size if one is given.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import NoReturn

from rfray.data.background import background_in_use
from rfray.data.dataset import DatasetSource
from rfray.data.decoding import Entry, OpenSet, OpenSplit
from rfray.data.folders import data_folder, prepared_folder
from rfray.data.pictures import other_size, shown
from rfray.data.remembered import ENCODING, Reading, files_state
from rfray.errors import UserError

NAME = "imagefolder"
_SCALE = "replace it, or have all pictures scaled: 'data: {image_size: 64}'"


def source(image_size: int | None = None) -> DatasetSource:
    """The pictures in the data folder's `imagefolder`, which may be a link to another folder."""
    return image_folder(data_folder() / NAME, image_size, background_in_use())


def image_folder(
    folder: Path, image_size: int | None = None, background: str | None = None
) -> DatasetSource:
    """The pictures of `folder` as a data set; its facts are looked up once in each process.

    Args:
        folder: The folder.
        image_size: Side in pixels that pictures are scaled to; None does not scale.
        background: The background colour of pictures with transparent parts; None refuses them.

    Raises:
        UserError: See `list_pictures` and `decoding.read`.
    """
    return _image_folder(folder.resolve(), prepared_folder(), image_size, background)


@cache
def _image_folder(
    folder: Path, memory: Path, image_size: int | None, background: str | None
) -> DatasetSource:
    listing = list_pictures(folder)
    names = [name for name, _ in (*listing.train, *listing.test)]
    reading = Reading(
        NAME,
        folder,
        image_size,
        background,
        opened=lambda: _opened(listing, reading.label, background),
        state=partial(files_state, folder, names),
    )
    return reading.source(memory, listing.findings)


def _opened(listing: Listing, label: str, background: str | None) -> OpenSet:
    def split(name: str, labelled: Sequence[tuple[str, int]]) -> OpenSplit:
        entry = partial(_entry, listing.folder, labelled, background)
        return OpenSplit(f"{listing.folder}, {name} split", len(labelled), entry)

    return OpenSet(
        NAME,
        classes=len(listing.classes),
        train=split("training", listing.train),
        test=split("test", listing.test),
        version="imagefolder-v1",
        fingerprint=lambda content, _: f"{label}-{content.hexdigest()}",
        other_size=partial(other_size, do=_SCALE),
        decimals=4,
    )


def _entry(
    folder: Path, labelled: Sequence[tuple[str, int]], background: str | None, place: int
) -> Entry:
    name, label = labelled[place]
    path = folder / name
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"it cannot be read: {error.strerror}", where=str(path)) from error
    picture = shown(content, str(path), background)
    origin = f"\n{name}\n{len(content)}\n".encode(*ENCODING) + content
    if picture.manner:
        origin += f"\n{picture.manner}\n".encode()
    return Entry(picture, label, str(path), origin)


SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".webp", ".ppm", ".pgm", ".tif", ".tiff"})
"""Suffixes of the pictures that are read, in lower case: those of torchvision's ImageFolder."""

_TEST_FOLDERS = ("test", "val")
_ENDINGS_NAMED = 4


@dataclass(frozen=True)
class Listing:
    """The pictures of a folder, before any is opened.

    Attributes:
        classes: Their names in alphabetical order; the index is the label.
        train: Paths in the folder and labels of the training pictures, by class, folder, name.
        test: The same for the test pictures.
        findings: What is not read, one sentence each.
    """

    folder: Path
    classes: tuple[str, ...]
    train: tuple[tuple[str, int], ...]
    test: tuple[tuple[str, int], ...]
    findings: tuple[str, ...] = ()


def list_pictures(folder: Path) -> Listing:
    """List the pictures of a folder by split and class, including those in folders of a class.

    Hidden files and folders, and files without the suffix of a picture, are left out.

    Raises:
        UserError: A split is missing, there are fewer than two classes, a class has no picture, the
            splits' classes differ, or a folder or a link cannot be followed.
    """
    train, test = _split_folder(folder, ("train",)), _split_folder(folder, _TEST_FOLDERS)
    classes = _class_names(train)
    for name in sorted({*classes} ^ {*_class_names(test)}):
        where = train if name in classes else test
        other = test if where is train else train
        raise UserError(f"the class '{name}' of {where.name}/ is missing", where=str(other))
    if len(classes) == 1:
        raise UserError(
            f"there is only one class, '{classes[0]}'",
            where=str(train),
            do="put the pictures of each class into its own folder: train/CLASS/picture.png",
        )
    left_out: Counter[str] = Counter()
    return Listing(
        folder,
        classes,
        train=tuple(_labelled(folder, train, classes, left_out)),
        test=tuple(_labelled(folder, test, classes, left_out)),
        findings=(*_left_out_finding(left_out), *_other_folders(train, test)),
    )


def _split_folder(folder: Path, names: Sequence[str]) -> Path:
    for name in names:
        if (folder / name).is_dir():
            return folder / name
    raise UserError(
        "there is no such folder",
        where=str(folder / names[0]),
        do=f"put pictures there, one folder for each class: {names[0]}/CLASS/picture.png",
    )


def _class_names(split: Path) -> tuple[str, ...]:
    names = tuple(path.name for path in _entries(split) if path.is_dir() and not _hidden(path))
    if not names:
        raise UserError("it has no folder of a class", where=str(split))
    return names


def _labelled(
    folder: Path, split: Path, classes: Sequence[str], left_out: Counter[str]
) -> Iterator[tuple[str, int]]:
    """Names and labels of a split's pictures; adds all other files to `left_out`, by reason."""
    for path in _entries(split):
        if _hidden(path):
            left_out["hidden"] += _files_in(path)
        elif not path.is_dir():
            left_out["in no class's folder"] += 1
    for label, name in enumerate(classes):
        found = False
        for path in _files_below(split / name):
            reason = _reason_to_leave_out(path)
            if reason is None:
                found = True
                yield path.relative_to(folder).as_posix(), label
            else:
                left_out[reason] += _files_in(path)
        if not found:
            raise UserError("the class has no picture", where=str(split / name))


def _files_below(folder: Path) -> list[Path]:
    """All files below a folder, and its hidden folders, by folder and then by name.

    It is torchvision's order, and links are followed as in torchvision.
    """
    found: list[tuple[str, list[str]]] = []
    for place, folders, names in os.walk(folder, followlinks=True, onerror=_refuse_unreadable):
        _refuse_link_upwards(Path(place), folder)
        hidden = [name for name in folders if name.startswith(".")]
        folders[:] = [name for name in folders if name not in hidden]
        found.append((place, sorted(names + hidden)))
    return [Path(place) / name for place, names in sorted(found) for name in names]


def _refuse_link_upwards(path: Path, top: Path) -> None:
    above = [folder.resolve() for folder in path.parents if folder.is_relative_to(top)]
    if path.resolve() in above:
        raise UserError(
            "the link leads back to a folder above it", where=str(path), do="remove the link"
        )


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir(), key=lambda path: path.name)
    except OSError as error:
        return _refuse_unreadable(error)


def _refuse_unreadable(error: OSError) -> NoReturn:
    raise UserError(f"it cannot be read: {error.strerror}", where=error.filename) from error


def _hidden(path: Path) -> bool:
    return path.name.startswith(".")


def _files_in(path: Path) -> int:
    """1 for a file, the number of its files for a hidden folder."""
    return sum(len(names) for _, _, names in os.walk(path)) if path.is_dir() else 1


def _reason_to_leave_out(path: Path) -> str | None:
    """Why a file in a class's folder is not read; None if it is.

    Raises:
        UserError: It has the name of a picture but is not a file.
    """
    ending = path.suffix.lower()
    if _hidden(path):
        return "hidden"
    if ending == ".gif":
        return "GIF"
    if ending not in SUFFIXES:
        return ending or "no ending"
    if not path.is_file():
        raise UserError("it is not a file, nor a link to one", where=str(path), do="remove it")
    return None


_OTHER_REASONS = ("hidden", "GIF", "in no class's folder")


def _left_out_finding(left_out: Counter[str]) -> tuple[str, ...]:
    """One sentence about all files that are left out, by reason; empty if none is."""
    total = left_out.total()
    if not total:
        return ()
    parts = [f"{left_out[reason]:,} {reason}" for reason in _OTHER_REASONS if left_out[reason]]
    endings = Counter({name: n for name, n in left_out.items() if name not in _OTHER_REASONS})
    if endings:
        named = [name for name, _ in endings.most_common(_ENDINGS_NAMED)]
        more = ", …" if len(endings) > len(named) else ""
        parts.append(f"{endings.total():,} of unknown ending ({', '.join(named)}{more})")
    return (f"{total:,} {'file is' if total == 1 else 'files are'} left out: {', '.join(parts)}",)


def _other_folders(train: Path, test: Path) -> tuple[str, ...]:
    """One sentence about folders next to the splits, which are not read; empty if none."""
    beside = [
        f"{path.name}/"
        for path in _entries(train.parent)
        if path.is_dir() and not _hidden(path) and path not in (train, test)
    ]
    if not beside:
        return ()
    return (f"{train.name}/ and {test.name}/ are read, not {', '.join(beside)} beside them",)
