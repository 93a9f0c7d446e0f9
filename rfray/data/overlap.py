"""Test pictures that are training pictures as well, which make a test accuracy unreliable."""

from __future__ import annotations

import hashlib

from rfray.data.dataset import Dataset


def overlap_findings(dataset: Dataset) -> tuple[str, ...]:
    """A sentence about test pictures with the pixels of a training picture; empty if none."""
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
