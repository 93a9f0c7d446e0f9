"""SVHN, cropped digits, read from its published MATLAB files.

Source: Netzer et al., 2011, http://ufldl.stanford.edu/housenumbers.
"""

from __future__ import annotations

from functools import partial

from rfray.data.dataset import Dataset, DatasetFacts, DatasetSource, Split
from rfray.data.facts import FACTS, FILES
from rfray.data.folders import data_folder
from rfray.data.published import PublishedFile, provide


def load(facts: DatasetFacts, train: PublishedFile, test: PublishedFile) -> Dataset:
    """Read the two MATLAB files from the data folder; the label 10 means the digit 0.

    Raises:
        UserError: A file is missing or not the published one.
    """
    return Dataset(facts, train=_split(train), test=_split(test))


def _split(published: PublishedFile) -> Split:
    import torch
    from scipy.io import loadmat

    table = loadmat(provide(published, data_folder()))
    images = torch.from_numpy(table["X"]).permute(3, 2, 0, 1).contiguous()
    return Split(images, torch.from_numpy(table["y"]).long().flatten() % 10)


TRAIN, TEST = FILES["SVHN/train_32x32.mat"], FILES["SVHN/test_32x32.mat"]
SOURCE = DatasetSource(FACTS["SVHN"], partial(load, FACTS["SVHN"], TRAIN, TEST))
