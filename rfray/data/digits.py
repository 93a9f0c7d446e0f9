"""scikit-learn's digits: 1,797 real scans of hand-written digits, bundled, no download.

Source: Alpaydin & Kaynak, *Optical Recognition of Handwritten Digits*, UCI 1998 (its test part).
"""

from __future__ import annotations

from rfray.data.dataset import Dataset, DatasetFacts, DatasetSource, Split

_IMAGE_SIZE = 32
_BRIGHTEST = 16
_TEST_EVERY = 5

FACTS = DatasetFacts(
    name="digits",
    # Raise the number when the split or the upsampling changes: it is part of every key.
    fingerprint="digits-v1",
    classes=10,
    image_size=_IMAGE_SIZE,
    train_images=1433,
    test_images=364,
    mean=(0.3054, 0.3054, 0.3054),
    deviation=(0.3239, 0.3239, 0.3239),
)


def load() -> Dataset:
    """The digits as grey images of 32×32 pixels in three channels, bilinearly upsampled from 8×8.

    The split is fixed: within each class, in the order of the file, every fifth scan is a test
    image, so both splits hold every class in equal parts.
    """
    import numpy as np
    import torch
    from sklearn.datasets import load_digits

    bunch = load_digits()
    labels = torch.from_numpy(np.asarray(bunch.target)).long()
    scans = torch.from_numpy(np.asarray(bunch.images)).float().unsqueeze(1)
    upsampled = torch.nn.functional.interpolate(
        scans, size=(_IMAGE_SIZE, _IMAGE_SIZE), mode="bilinear", align_corners=False
    )
    images = (upsampled * (255 / _BRIGHTEST)).round().clamp(0, 255).to(torch.uint8)
    images = images.expand(-1, 3, -1, -1).contiguous()
    rank_in_class = torch.zeros_like(labels)
    for digit in range(FACTS.classes):
        members = labels == digit
        rank_in_class[members] = torch.arange(int(members.sum()))
    is_test = rank_in_class % _TEST_EVERY == 0
    return Dataset(
        FACTS,
        train=Split(images[~is_test], labels[~is_test]),
        test=Split(images[is_test], labels[is_test]),
    )


SOURCE = DatasetSource(FACTS, load)
