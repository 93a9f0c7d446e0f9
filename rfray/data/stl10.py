"""STL-10's labelled pictures, read from their published binary files.

Source: Coates, Lee & Ng, 2011, https://cs.stanford.edu/~acoates/stl10.
"""

from __future__ import annotations

from functools import partial

from rfray.data.dataset import Dataset, DatasetFacts, DatasetSource, Split
from rfray.data.facts import FACTS, archive
from rfray.data.folders import data_folder
from rfray.data.published import PublishedArchive, read_members


def load(facts: DatasetFacts, published: PublishedArchive) -> Dataset:
    """Read the labelled pictures from the data folder; members are images and labels by split.

    Raises:
        UserError: A file is missing or is not the published one.
    """
    train_x, train_y, test_x, test_y = read_members(published, data_folder()).values()
    return Dataset(facts, train=_split(train_x, train_y), test=_split(test_x, test_y))


def _split(pixels: bytes, labels: bytes) -> Split:
    """Each picture is stored column by column, and labels count from 1."""
    import torch

    images = torch.frombuffer(bytearray(pixels), dtype=torch.uint8)
    images = images.view(-1, 3, 96, 96).transpose(2, 3).contiguous()
    return Split(images, torch.frombuffer(bytearray(labels), dtype=torch.uint8).long() - 1)


PUBLISHED = archive("stl10_binary.tar.gz", "stl10_binary")
SOURCE = DatasetSource(FACTS["STL10"], partial(load, FACTS["STL10"], PUBLISHED))
