"""STL-10's labelled pictures, from the binary files that they are published as.

Source: Coates, Lee & Ng, 2011, https://cs.stanford.edu/~acoates/stl10. Checksums are those that
torchvision checks.
"""

from __future__ import annotations

from functools import partial

from rfray.data.dataset import Dataset, DatasetFacts, DatasetSource, Split
from rfray.data.folders import data_folder
from rfray.data.published import PublishedArchive, PublishedFile, read_members
from rfray.errors import UserError

# Mean and deviation of all labelled training pixels by channel.
FACTS = DatasetFacts(
    name="STL10",
    fingerprint="STL10-v1",
    classes=10,
    image_size=96,
    train_images=5_000,
    test_images=8_000,
    mean=(0.4467, 0.4398, 0.4066),
    deviation=(0.2603, 0.2566, 0.2713),
    augmentation="crop_flip",
)
PUBLISHED = PublishedArchive(
    PublishedFile(
        "stl10_binary.tar.gz",
        "91f7769df0f17e558f3565bffb0c7dfb",
        ("http://ai.stanford.edu/~acoates/stl10/stl10_binary.tar.gz",),
    ),
    (
        PublishedFile("stl10_binary/train_X.bin", "918c2871b30a85fa023e0c44e0bee87f"),
        PublishedFile("stl10_binary/train_y.bin", "5a34089d4802c674881badbb80307741"),
        PublishedFile("stl10_binary/test_X.bin", "7f263ba9f9e0b06b93213547f721ac82"),
        PublishedFile("stl10_binary/test_y.bin", "36f9794fa4beb8a2c72628de14fa638e"),
    ),
)


def load(facts: DatasetFacts, published: PublishedArchive) -> Dataset:
    """Read the labelled pictures from the data folder; members are images and labels by split.

    Raises:
        UserError: A file is missing or is not the published one.
    """
    contents = read_members(published, data_folder())
    train_x, train_y, test_x, test_y = (contents[member.name] for member in published.members)
    return Dataset(
        facts,
        train=_split(train_x, train_y, facts),
        test=_split(test_x, test_y, facts),
    )


def _split(pixels: bytes, labels: bytes, facts: DatasetFacts) -> Split:
    """Each picture is stored column by column, and labels count from 1."""
    import torch

    size = facts.image_size
    if len(pixels) != len(labels) * 3 * size * size:
        raise UserError(
            f"{len(pixels):,} bytes of pixels for {len(labels):,} labels", where=facts.name
        )
    images = torch.frombuffer(bytearray(pixels), dtype=torch.uint8)
    images = images.view(-1, 3, size, size).transpose(2, 3).contiguous()
    return Split(images, torch.frombuffer(bytearray(labels), dtype=torch.uint8).long() - 1)


def source(facts: DatasetFacts, published: PublishedArchive) -> DatasetSource:
    """A data set of this format."""
    return DatasetSource(facts, partial(load, facts, published))


SOURCE = source(FACTS, PUBLISHED)
