"""Reads a set of `facts.SETS` with torchvision's class.

The fingerprint is a digest of every pixel and label, after scaling.
"""

import hashlib
import importlib.util
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path
from typing import Any

from rfray.data.background import background_in_use
from rfray.data.dataset import DatasetSource, Split
from rfray.data.decoding import Entry, OpenSet, OpenSplit
from rfray.data.facts import TorchvisionSet
from rfray.data.folders import data_folder, prepared_folder
from rfray.data.pictures import Shown, shown
from rfray.data.published import provide
from rfray.data.remembered import Reading, files_state
from rfray.errors import UserError
from rfray.terminal.telling import tell

_VERSION = "torchvision-v1"  # raise it as `OpenSet.version` says: it is part of every key


def source(known: TorchvisionSet, image_size: int | None) -> DatasetSource:
    """A set of torchvision, its pictures scaled to a side of `image_size` pixels; None: not scaled.

    Raises:
        UserError: A file is missing, damaged or half extracted; a package is missing; or the
            pictures are not all square and of one size, and `image_size` is None.
    """
    root, memory = data_folder().resolve(), prepared_folder()
    return _source(known, image_size, background_in_use(), root, memory)


@cache
def _source(
    known: TorchvisionSet, image_size: int | None, background: str | None, root: Path, memory: Path
) -> DatasetSource:
    reading = Reading(
        known.name,
        root,
        image_size,
        background,
        opened=lambda: opened(known, root, background),
        state=lambda: f"{_VERSION} {_state(known, root)}",
    )
    return reading.source(memory)


def _state(known: TorchvisionSet, root: Path) -> str:
    """Digest of the name, size and time of change of every file of a set."""
    places = [root / name for name in (*known.present, *(file.name for file in known.files))]
    return files_state(root, sorted(name for place in places for name in _files_at(place, root)))


def _files_at(place: Path, root: Path) -> Iterator[str]:
    """The file itself, or all files below the folder, by their names below `root`."""
    if place.is_file():
        yield place.relative_to(root).as_posix()
    for folder, _, names in os.walk(place):
        for name in names:
            yield (Path(folder) / name).relative_to(root).as_posix()


def opened(known: TorchvisionSet, root: Path, background: str | None) -> OpenSet:
    """A set whose files are below `root`.

    Missing files are downloaded if possible. Files with a published checksum are verified before
    torchvision reads or extracts them.

    Raises:
        UserError: A file is missing, damaged or half extracted, or a package is missing.
    """
    _refuse_unreadable(known, root)
    for file in known.files:
        provide(file, root)
    options: dict[str, Any] = {}
    missing = next((root / name for name in known.present if not (root / name).exists()), None)
    if missing is not None:
        if not known.archives:
            raise UserError("missing", where=str(missing), do=known.by_hand)
        for archive in known.archives:
            provide(archive, root)
        options = {"download": True}  # the archive exists: torchvision only extracts it
        tell(f"extracting {known.name}")
    counts = known.counts or (None, None)
    splits = {"training": known.train, "test": known.test}
    train, test = (
        _split(known, f"{name} split", {**arguments, **options}, root, background, count)
        for (name, arguments), count in zip(splits.items(), counts, strict=True)
    )
    return OpenSet(
        known.name,
        known.classes,
        train,
        test,
        version=_VERSION,
        fingerprint=lambda content, splits: f"{known.name}-{_digest(content, splits)}",
        other_size=partial(_other_size, known),
        augmentation=known.augmentation,
    )


def _refuse_unreadable(known: TorchvisionSet, root: Path) -> None:
    if known.needs and importlib.util.find_spec(known.needs) is None:
        raise UserError(
            f"reading it needs {known.needs}", where=known.name, do=f"install {known.needs}"
        )
    if known.unverified and (root / known.unverified).exists():
        raise UserError(
            "torchvision would unpickle these files, which cannot be verified",
            where=str(root / known.unverified),
            do="delete the folder",
        )


def _split(
    known: TorchvisionSet,
    name: str,
    arguments: Mapping[str, Any],
    root: Path,
    background: str | None,
    count: int | None,
) -> OpenSplit:
    import torchvision

    below = {**arguments, "root": str(root / arguments.get("root", ""))}
    if known.pictures and not known.labels:
        below["loader"] = Path  # rfray opens the file: torchvision's loader changes some pictures
    again = _again(known, root)
    with _named(f"{known.name}, {name}", again):
        pictures = getattr(torchvision.datasets, known.reader)(**below)
        if known.unordered:
            getattr(pictures, known.pictures).sort()
        length = len(pictures)
    if count not in (None, length):
        raise UserError(
            f"half extracted, or not the published set: its {name} has {length:,} pictures, "
            f"expected {count:,}",
            where=known.name,
            do=again,
        )
    return OpenSplit(
        f"{known.name}, {name}", length, partial(_entry, known, name, pictures, background)
    )


def _again(known: TorchvisionSet, root: Path) -> str:
    """What to do about files that are damaged."""
    places = ", ".join(str(root / name) for name in known.present)
    if not known.archives:
        return f"replace {places}" if places else "replace its files"
    archives = ", ".join(Path(archive.name).name for archive in known.archives)
    return f"delete {places}: rfray extracts {archives} again"


def _entry(
    known: TorchvisionSet, split: str, pictures: Any, background: str | None, place: int
) -> Entry:
    """A picture from torchvision's class; UserError names its file."""
    if known.pictures:
        entry = getattr(pictures, known.pictures)[place]
        parts = entry if isinstance(entry, tuple) else (entry,)
        where = next(str(part) for part in parts if isinstance(part, str | os.PathLike))
    else:
        where = f"{known.name}, picture {place} of the {split}"
    with _named(where, "replace it"):
        if not known.labels:
            picture, label = pictures[place]
        elif known.labels == known.pictures:
            picture, label = entry
        else:
            picture, label = entry, getattr(pictures, known.labels)[place]
        if label is None:
            raise UserError("it has no label", where=where)
        if isinstance(picture, str | os.PathLike):
            found = shown(Path(picture).read_bytes(), str(picture), background)
        else:
            found = Shown(picture.convert("RGB"))
        return Entry(found, int(label) - known.first_label, where)


@contextmanager
def _named(where: str, do: str) -> Iterator[None]:
    """Turn any error of a reader, for a missing or damaged file, into one line that names it."""
    try:
        yield
    except (UserError, MemoryError):
        raise
    except Exception as error:  # each format has its own errors; none is dropped
        raise UserError(
            f"torchvision cannot read it: {type(error).__name__}: {error}", where=where, do=do
        ) from error


def _other_size(known: TorchvisionSet, where: str, width: int, height: int, size: int) -> UserError:
    del where  # the sizes of all pictures are the problem
    return UserError(
        f"its pictures do not have the same size: one is {width}×{height} pixels, expected "
        f"{size}×{size}",
        where=known.name,
        do=f"give a size to scale them to: 'data: {{image_size: 64}}', or '{known.name}@64'",
    )


def _digest(content: hashlib.blake2b, splits: Sequence[Split]) -> str:
    for split in splits:
        content.update(f"\n{tuple(split.images.shape)}\n".encode())
        content.update(split.labels.numpy().data)
        content.update(split.images.flatten().numpy().data)
    return content.hexdigest()
