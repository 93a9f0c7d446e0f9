"""The files of a set of `torchvision_sets`: found, fetched, verified, extracted, opened."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rfray.data.pictures import Shown, shown
from rfray.data.published import fetch, verify
from rfray.data.remembered import files_state
from rfray.data.torchvision_sets import TorchvisionSet
from rfray.errors import UserError
from rfray.terminal.telling import tell


@dataclass(frozen=True, eq=False)
class OpenSplit:
    """One split as torchvision's class gives it, and what to call it."""

    known: TorchvisionSet
    name: str
    pictures: Any
    length: int

    def __len__(self) -> int:
        return self.length

    def picture(self, place: int, background: str | None) -> tuple[Shown, int]:
        """A picture, and its class, counted from 0.

        Args:
            place: Which one.
            background: The colour to lay it on where it is transparent; None refuses it then.

        Raises:
            UserError: It cannot be shown, is missing, or has no label; its file is named.
        """
        where = self._file_of(place)
        with _named(where, "replace it"):
            picture, label = self._entry(place)
            if label is None:
                raise UserError("it has no label", where=where)
            if isinstance(picture, str | os.PathLike):
                found = shown(Path(picture).read_bytes(), str(picture), background)
            else:
                found = Shown(picture.convert("RGB"))
            return found, int(label) - self.known.first_label

    def _entry(self, place: int) -> tuple[Any, Any]:
        """A picture's file, or the picture where it is no file, and its label."""
        known = self.known
        if not known.labels:
            picture, label = self.pictures[place]
        elif known.labels == known.pictures:
            picture, label = getattr(self.pictures, known.pictures)[place]
        else:
            picture = getattr(self.pictures, known.pictures)[place]
            label = getattr(self.pictures, known.labels)[place]
        return picture, label

    def _file_of(self, place: int) -> str:
        """What to call a picture: its file, or its place where it is no file."""
        if self.known.pictures:
            entry = getattr(self.pictures, self.known.pictures)[place]
            parts = entry if isinstance(entry, tuple) else (entry,)
            return next(str(part) for part in parts if isinstance(part, str | os.PathLike))
        return f"{self.known.name}, picture {place} of the {self.name} split"


def state_of(known: TorchvisionSet, root: Path) -> str:
    """Digest of the name, size and time of change of every file that a set is read from."""
    places = [root / name for name in (*known.present, *(file.name for file in known.files))]
    return files_state(root, sorted(name for place in places for name in _files_at(place, root)))


def _files_at(place: Path, root: Path) -> Iterator[str]:
    """The file itself, or all files below the folder, by their names below `root`."""
    if place.is_file():
        yield place.relative_to(root).as_posix()
    for folder, _, names in os.walk(place):
        for name in names:
            yield (Path(folder) / name).relative_to(root).as_posix()


def open_splits(known: TorchvisionSet, root: Path) -> tuple[OpenSplit, OpenSplit]:
    """The training and the test split, of files below `root`.

    What is missing is fetched where that is possible; what has a published checksum is verified
    before torchvision reads or extracts it.

    Raises:
        UserError: A file is missing, damaged or half extracted, or a package is missing.
    """
    if known.needs and importlib.util.find_spec(known.needs) is None:
        raise UserError(
            f"reading it needs {known.needs}", where=known.name, do=f"install {known.needs}"
        )
    if known.unverified and (root / known.unverified).exists():
        raise UserError(
            "torchvision would unpickle what lies there, which nobody can verify",
            where=str(root / known.unverified),
            do="delete the folder",
        )
    for file in known.files:
        if not (root / file.name).is_file():
            fetch(file, root)
        verify(root / file.name, file.md5)
    options: dict[str, Any] = {}
    if _missing(known, root) is not None:
        _provide_archives(known, root)
        options = {"download": True}  # of what is there already: torchvision then extracts it
        tell(f"extracting {known.name}")
    train = _split(known, "training", known.train, root, options)
    test = _split(known, "test", known.test, root, options)
    for split, count in zip((train, test), known.counts or (), strict=False):
        _refuse_unless_complete(split, count, root)
    return train, test


def _missing(known: TorchvisionSet, root: Path) -> Path | None:
    """The first file or folder that is not there and should be once all is extracted."""
    return next((root / name for name in known.present if not (root / name).exists()), None)


def _provide_archives(known: TorchvisionSet, root: Path) -> None:
    if not known.archives:
        raise UserError("missing", where=str(_missing(known, root)), do=known.by_hand)
    for archive in known.archives:
        if not (root / archive.name).is_file():
            fetch(archive, root)
        verify(root / archive.name, archive.md5)


def _split(
    known: TorchvisionSet,
    name: str,
    arguments: Mapping[str, Any],
    root: Path,
    options: Mapping[str, Any],
) -> OpenSplit:
    import torchvision

    reader = getattr(torchvision.datasets, known.reader)
    below = {**arguments, "root": str(root / arguments.get("root", "")), **options}
    if known.pictures and not known.labels:
        below["loader"] = Path  # rfray opens it: torchvision's own loader drops what does not fit
    with _named(f"{known.name}, {name} split", _again(known, root)):
        pictures = reader(**below)
        if known.unordered:
            getattr(pictures, known.pictures).sort()
        return OpenSplit(known, name, pictures, len(pictures))


def _again(known: TorchvisionSet, root: Path) -> str:
    """What to do about files that are damaged."""
    places = ", ".join(str(root / name) for name in known.present)
    if not known.archives:
        return f"replace {places}" if places else "replace its files"
    archives = ", ".join(Path(archive.name).name for archive in known.archives)
    return f"delete {places}: rfray extracts {archives} again"


def _refuse_unless_complete(split: OpenSplit, count: int, root: Path) -> None:
    if len(split) != count:
        raise UserError(
            f"half extracted, or not the published set: its {split.name} split has {len(split):,} "
            f"pictures, expected {count:,}",
            where=split.known.name,
            do=_again(split.known, root),
        )


@contextmanager
def _named(where: str, do: str) -> Iterator[None]:
    """Turn whatever a reader raises on a missing or damaged file into one line that names it."""
    try:
        yield
    except (UserError, MemoryError):
        raise
    except Exception as error:  # each format has errors of its own; none is dropped
        raise UserError(
            f"torchvision cannot read it: {type(error).__name__}: {error}", where=where, do=do
        ) from error
