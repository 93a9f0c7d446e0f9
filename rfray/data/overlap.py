"""Test pictures that are training pictures too, on which no accuracy should rest."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from rfray.data.dataset import Dataset, Split
from rfray.data.folders import prepared_notes

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

NOTE = "test_in_training"
"""What the header of a copy called their number that was prepared before it noted findings."""


def pixels_digest(pixels: NDArray[np.uint8]) -> bytes:
    """What equal pictures of one size have in common, and no others."""
    return hashlib.blake2b(pixels.tobytes(), digest_size=16).digest()


def count_in_both(train: Iterable[bytes], test: Iterable[bytes]) -> int:
    """How many test pictures are training pictures too, by the digests of both."""
    known = set(train)
    return sum(digest in known for digest in test)


def count_overlap(dataset: Dataset) -> int:
    """How many test pictures of a data set in memory are training pictures too."""
    return count_in_both(_digests(dataset.train), _digests(dataset.test))


def _digests(split: Split) -> Iterable[bytes]:
    return map(pixels_digest, split.images.numpy())


def overlap_findings(common: int, test_images: int) -> tuple[str, ...]:
    """A sentence that tells of `common` test pictures among the training ones; none of none."""
    if not common:
        return ()
    what = "is a training picture too" if common == 1 else "are training pictures too"
    return (f"{common:,} of {test_images:,} test pictures {what}",)


def noted_overlap(path: Path) -> int:
    """The number that a prepared file's header notes; 0 where there is no such file or note."""
    note = (prepared_notes(path) or {}).get(NOTE, "0")
    return int(note) if note.isdecimal() else 0  # what something else wrote is made anew
