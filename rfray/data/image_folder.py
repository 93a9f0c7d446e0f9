"""A user's own pictures: `imagefolder/train/CLASS/…` and `imagefolder/test/CLASS/…` (or `val/`).

The fingerprint contains a digest of the names, sizes and contents of all files and of the changes
to their pixels, and the image size if one is given.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache, partial
from pathlib import Path

from rfray.data.background import background_in_use
from rfray.data.dataset import DatasetSource
from rfray.data.decoding import Entry, OpenSet, OpenSplit
from rfray.data.folders import data_folder, prepared_folder
from rfray.data.picture_folder import Listing, list_pictures
from rfray.data.pictures import other_size, shown
from rfray.data.remembered import ENCODING, Reading, facts_of, files_state
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
    facts = facts_of(reading, memory)
    facts = replace(facts, findings=(*listing.findings, *facts.findings))
    return DatasetSource(facts, partial(reading.read_as_planned, facts))


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
