"""SVHN, cropped digits, from the MATLAB files that it is published as; reading them needs SciPy.

Source: Netzer et al., 2011, http://ufldl.stanford.edu/housenumbers. Checksums are those that
torchvision checks.
"""

from __future__ import annotations

import importlib.util
from functools import partial
from pathlib import Path

from rfray.data.dataset import Dataset, DatasetFacts, DatasetSource, Split
from rfray.data.folders import data_folder
from rfray.data.published import PublishedFile, fetch, verify
from rfray.errors import UserError

# Mean and deviation of all training pixels by channel.
FACTS = DatasetFacts(
    name="SVHN",
    fingerprint="SVHN-v1",
    classes=10,
    image_size=32,
    train_images=73_257,
    test_images=26_032,
    mean=(0.4377, 0.4438, 0.4728),
    deviation=(0.1980, 0.2010, 0.1970),
)
_SITE = "http://ufldl.stanford.edu/housenumbers/"
TRAIN = PublishedFile(
    "SVHN/train_32x32.mat",
    "e26dedcc434d2e4c54c9b2d4a06d8373",
    (f"{_SITE}train_32x32.mat",),
)
TEST = PublishedFile(
    "SVHN/test_32x32.mat",
    "eb5a983be6a315427106f1b164d9cef3",
    (f"{_SITE}test_32x32.mat",),
)


def load(facts: DatasetFacts, train: PublishedFile, test: PublishedFile) -> Dataset:
    """Read the two MATLAB files from the data folder; the label 10 stands for the digit 0.

    Raises:
        UserError: SciPy is not installed, or a file is missing or not the published one.
    """
    if importlib.util.find_spec("scipy") is None:
        raise UserError("reading MATLAB files needs SciPy", where=facts.name, do="install scipy")
    root = data_folder()
    return Dataset(facts, train=_split(root, train), test=_split(root, test))


def _split(root: Path, published: PublishedFile) -> Split:
    import torch
    from scipy.io import loadmat

    path = root / published.name
    if not path.is_file():
        fetch(published, root)
    verify(path, published.md5)
    table = loadmat(path)
    images = torch.from_numpy(table["X"]).permute(3, 2, 0, 1).contiguous()
    return Split(images, torch.from_numpy(table["y"]).long().flatten() % 10)


def source(facts: DatasetFacts, train: PublishedFile, test: PublishedFile) -> DatasetSource:
    """A data set of this format."""
    return DatasetSource(facts, partial(load, facts, train, test))


SOURCE = source(FACTS, TRAIN, TEST)
