"""Test pictures that are training pictures too, on which no accuracy should rest."""

from __future__ import annotations

import hashlib

from rfray.data.dataset import Dataset


def overlap_findings(dataset: Dataset) -> tuple[str, ...]:
    """A sentence that tells of test pictures with a training picture's pixels; none of none."""
    train, test = (
        [hashlib.blake2b(pixels.tobytes(), digest_size=16).digest() for pixels in images.numpy()]
        for images in (dataset.train.images, dataset.test.images)
    )
    known = set(train)
    common = sum(digest in known for digest in test)
    if not common:
        return ()
    what = "is a training picture too" if common == 1 else "are training pictures too"
    return (f"{common:,} of {len(test):,} test pictures {what}",)
