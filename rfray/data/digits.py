"""scikit-learn's digits: 1,797 real scans of hand-written digits, bundled, no download.

Source: Alpaydin & Kaynak, *Optical Recognition of Handwritten Digits*, UCI 1998 (its test part).
"""

from rfray.data.dataset import Dataset, DatasetSource, Split
from rfray.data.facts import FACTS as ALL_FACTS

_BRIGHTEST = 16
_TEST_EVERY = 5

FACTS = ALL_FACTS["digits"]


def load() -> Dataset:
    """The digits as grey images of 32×32 pixels in three channels, bilinearly upsampled from 8×8.

    The split is fixed: in each class, in the order of the file, every fifth scan is a test image,
    so each class has the same share of both splits.
    """
    import numpy as np
    import torch
    from sklearn.datasets import load_digits

    bunch = load_digits()
    labels = torch.from_numpy(np.asarray(bunch.target)).long()
    scans = torch.from_numpy(np.asarray(bunch.images)).float().unsqueeze(1)
    upsampled = torch.nn.functional.interpolate(
        scans, size=(FACTS.image_size,) * 2, mode="bilinear", align_corners=False
    )
    images = (upsampled * (255 / _BRIGHTEST)).round().clamp(0, 255).to(torch.uint8)
    images = images.expand(-1, 3, -1, -1).contiguous()
    is_test = torch.zeros_like(labels, dtype=torch.bool)
    for digit in range(FACTS.classes):
        is_test[(labels == digit).nonzero()[::_TEST_EVERY]] = True
    return Dataset(
        FACTS,
        train=Split(images[~is_test], labels[~is_test]),
        test=Split(images[is_test], labels[is_test]),
    )


SOURCE = DatasetSource(FACTS, load)
