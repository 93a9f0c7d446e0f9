"""A user's own pictures: `imagefolder/train/CLASS/…` and `imagefolder/test/CLASS/…` (or `val/`).

Facts and fingerprint come from the files. They are remembered beside the prepared copies, and read
anew once a file's name, size or time has changed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rfray.data.background import background_in_use, on_background
from rfray.data.dataset import Dataset, DatasetFacts, DatasetSource, Split
from rfray.data.folders import data_folder, prepared_folder
from rfray.data.overlap import count_in_both, overlap_findings, pixels_digest
from rfray.data.picture_folder import Listing, list_pictures
from rfray.data.pictures import Shown, fitted, no_warnings, shown, square
from rfray.data.remembered import ENCODING, files_state, memory_file, recall, remember
from rfray.data.treatment import Treatments, treatment_findings
from rfray.errors import UserError
from rfray.terminal.telling import counted

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

NAME = "imagefolder"


@no_warnings()
def read_facts(
    listing: Listing, image_size: int | None = None, background: str | None = None
) -> DatasetFacts:
    """Facts of a folder, from reading and decoding every picture once.

    Mean and deviation are those of the training pixels, after scaling; the fingerprint digests the
    names, sizes and contents of all files and how their pixels had to be changed, and names the
    image size if one is given.

    Args:
        listing: The pictures.
        image_size: What to scale them to, in pixels a side; None leaves them as they are.
        background: The colour to lay pictures with transparent parts on; None refuses them.

    Raises:
        UserError: A picture cannot be shown; or, without `image_size`, it is not square or of
            another size than the first.
    """
    content_digest, moments, treatments = _Digest(), _Moments(), Treatments()
    digests: list[bytes] = []
    size = 0
    for name, _, content in _contents(listing, (*listing.train, *listing.test)):
        picture = shown(content, str(listing.folder / name), background)
        content_digest.add(name, content, picture.manner)
        treatments.update(picture.treatments)
        pixels = _square(picture, listing, name, size, image_size)
        digests.append(pixels_digest(pixels))
        size = len(pixels)
        if name.startswith("train/"):
            moments.add(pixels)
    mean, deviation = moments.mean_and_deviation()
    if not all(deviation):
        raise UserError("all training pixels of a channel are equal", where=str(listing.folder))
    train_images, test_images = len(listing.train), len(listing.test)
    common = count_in_both(digests[:train_images], digests[train_images:])
    return DatasetFacts(
        name=NAME,
        fingerprint=content_digest.fingerprint(image_size),
        classes=len(listing.classes),
        image_size=size,
        train_images=train_images,
        test_images=test_images,
        mean=mean,
        deviation=deviation,
        findings=(
            *treatment_findings(treatments, background),
            *overlap_findings(common, test_images),
        ),
    )


Channels = tuple[float, float, float]
"""A value for red, green and blue each."""


class _Moments:
    """Sums over the pixels of pictures, of 0 to 1, by channel."""

    def __init__(self) -> None:
        import numpy as np

        self._total, self._squares, self._pixels = np.zeros(3), np.zeros(3), 0

    def add(self, pixels: NDArray[np.uint8]) -> None:
        """Add a picture, uint8 (height, width, 3)."""
        import numpy as np

        scaled = pixels.reshape(-1, 3) / 255
        self._total += scaled.sum(0)
        self._squares += np.square(scaled).sum(0)
        self._pixels += len(scaled)

    def mean_and_deviation(self) -> tuple[Channels, Channels]:
        """Mean and standard deviation by channel, to four places."""
        import numpy as np

        mean = self._total / self._pixels
        variance = np.maximum(self._squares / self._pixels - mean**2, 0)
        return _three(mean), _three(np.sqrt(variance))


def _three(values: Iterable[Any]) -> Channels:
    red, green, blue = (round(float(value), 4) for value in values)
    return red, green, blue


def _square(
    picture: Shown, listing: Listing, name: str, size: int, image_size: int | None
) -> NDArray[np.uint8]:
    """The picture; `size` is that of those before it, 0 for the first."""
    if image_size is not None:
        return fitted(picture.image, image_size)
    path = str(listing.folder / name)
    return square(picture.image, path, size or picture.image.height, do=_SCALE)


_SCALE = "replace it, or have all pictures scaled: 'data: {image_size: 64}'"


def _contents(
    listing: Listing, labelled: Sequence[tuple[str, int]]
) -> Iterator[tuple[str, int, bytes]]:
    for name, label in counted(labelled, len(labelled), f"reading {listing.folder}"):
        yield name, label, _content(listing.folder / name)


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"it cannot be read: {error.strerror}", where=str(path)) from error


class _Digest:
    """Digests files one by one, in order."""

    def __init__(self) -> None:
        self._hash = hashlib.blake2b(b"imagefolder-v1", digest_size=12)

    def add(self, name: str, content: bytes, manner: str) -> None:
        """Add a file, and in what its pixels differ from those that its bytes stand for."""
        self._hash.update(f"\n{name}\n{len(content)}\n".encode(*ENCODING))
        self._hash.update(content)
        self._hash.update(f"\n{manner}\n".encode() if manner else b"")

    def fingerprint(self, image_size: int | None) -> str:
        return f"{_label(image_size)}-{self._hash.hexdigest()}"


def _label(image_size: int | None) -> str:
    return NAME if image_size is None else f"{NAME}-{image_size}px"


@no_warnings()
def load(
    facts: DatasetFacts,
    listing: Listing,
    image_size: int | None = None,
    background: str | None = None,
) -> Dataset:
    """Read all pictures, as `read_facts` does.

    Raises:
        UserError: A file has changed since its facts were read.
    """
    content_digest = _Digest()
    splits = []
    for labelled in (listing.train, listing.test):
        size, labels = facts.image_size, [label for _, label in labelled]
        arrays = _arrays(listing, labelled, size, image_size, background, content_digest)
        splits.append(_split(arrays, labels, size))
    if content_digest.fingerprint(image_size) != facts.fingerprint:
        raise UserError(
            "its pictures have changed since the sweep was planned",
            where=str(listing.folder),
            do="start the sweep again",
        )
    return Dataset(facts, *splits)


def _arrays(
    listing: Listing,
    labelled: Sequence[tuple[str, int]],
    size: int,
    image_size: int | None,
    background: str | None,
    content_digest: _Digest,
) -> Iterator[NDArray[np.uint8]]:
    """Pictures as uint8 (size, size, 3); each file is added to the digest."""
    for name, _, content in _contents(listing, labelled):
        picture = shown(content, str(listing.folder / name), background)
        content_digest.add(name, content, picture.manner)
        yield _square(picture, listing, name, size, image_size)


def _split(arrays: Iterable[NDArray[np.uint8]], labels: Sequence[int], size: int) -> Split:
    import numpy as np
    import torch

    images = np.empty((len(labels), 3, size, size), dtype=np.uint8)
    for place, pixels in enumerate(arrays):
        images[place] = pixels.transpose(2, 0, 1)
    return Split(torch.from_numpy(images), torch.tensor(labels))


def image_folder(
    folder: Path, image_size: int | None = None, background: str | None = None
) -> DatasetSource:
    """The pictures of `folder` as a data set; its facts are read once a process.

    Args:
        folder: The folder.
        image_size: What to scale the pictures to, in pixels a side; None leaves them as they are.
        background: The colour to lay pictures with transparent parts on; None refuses them.

    Raises:
        UserError: See `list_pictures` and `read_facts`.
    """
    return _image_folder(folder.resolve(), prepared_folder(), image_size, background)


def source(image_size: int | None = None) -> DatasetSource:
    """The pictures in the data folder's `imagefolder`, which may be a link to another folder.

    They are laid on the background in use.
    """
    return image_folder(data_folder() / NAME, image_size, background_in_use())


@cache
def _image_folder(
    folder: Path, memory: Path, image_size: int | None, background: str | None
) -> DatasetSource:
    listing = list_pictures(folder)
    state = files_state(folder, (name for name, _ in (*listing.train, *listing.test)))
    path = memory_file(memory, on_background(_label(image_size), background), folder)
    facts = recall(path, state)
    if facts is None:
        facts = read_facts(listing, image_size, background)
        remember(path, state, facts)
    facts = replace(facts, findings=(*listing.findings, *facts.findings))
    return DatasetSource(facts, partial(load, facts, listing, image_size, background))
