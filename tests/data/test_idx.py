"""The idx files of MNIST and its likes."""

from __future__ import annotations

import numpy as np
import pytest
import torchvision
from layouts import fashion, idx_file, refused, write_tree

from rfray.data.cache import prepared

RAW = "FashionMNIST/raw"


def unpacked(arrays):
    names = ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1")
    return {
        f"{RAW}/{name}-ubyte": idx_file(array) for name, array in zip(names, arrays, strict=True)
    }


@pytest.mark.parametrize("form", ["as published", "unpacked"])
def test_grey_pixels_become_three_channels(data_root, form):
    source, packed, arrays = fashion()
    write_tree(data_root, packed if form == "as published" else unpacked(arrays))
    dataset = source.load()
    for split, images, labels in ((dataset.train, *arrays[:2]), (dataset.test, *arrays[2:])):
        assert split.images.shape == (len(labels), 3, 28, 28)
        assert all(np.array_equal(split.images[:, c].numpy(), images) for c in range(3))
        assert split.labels.tolist() == labels.tolist()


def test_they_are_what_torchvision_reads(data_root):
    source, _, arrays = fashion()
    write_tree(data_root, unpacked(arrays))
    oracle = torchvision.datasets.FashionMNIST(data_root, train=False)
    assert np.array_equal(source.load().test.images[:, 0].numpy(), oracle.data.numpy())


def test_a_truncated_published_file_is_refused(data_root):
    source, packed, _ = fashion()
    name = f"{RAW}/train-images-idx3-ubyte.gz"
    write_tree(data_root, {**packed, name: packed[name][:-7]})
    with refused(r"train-images-idx3-ubyte\.gz: not the published file, or truncated"):
        source.load()


def test_a_truncated_unpacked_file_is_refused(data_root):
    source, _, arrays = fashion()
    files = unpacked(arrays)
    name = f"{RAW}/t10k-images-idx3-ubyte"
    write_tree(data_root, {**files, name: files[name][:-28]})
    with refused(r"t10k-images-idx3-ubyte: truncated: 3,892 bytes .* expected 3,920"):
        source.load()


def test_another_format_is_refused(data_root):
    source, _, arrays = fashion()
    name = f"{RAW}/train-labels-idx1-ubyte"
    write_tree(data_root, {**unpacked(arrays), name: b"<html>404</html>"})
    with refused(r"train-labels-idx1-ubyte: no idx file of unsigned bytes with 1 axes"):
        source.load()


def test_another_number_of_images_is_refused(data_root):
    source, _, arrays = fashion()
    write_tree(data_root, unpacked([array[:4] for array in arrays]))
    with refused(r"FashionMNIST: its training images have the shape \(4, .*, expected \(12, "):
        prepared(source)
    assert list((data_root / "prepared").glob("*.safetensors")) == []


def test_a_missing_file_says_what_to_put_where(data_root):
    source, packed, _ = fashion()
    name = f"{RAW}/t10k-labels-idx1-ubyte.gz"
    del packed[name]
    write_tree(data_root, packed)
    with refused(rf"{data_root}/{name}: missing.*put the published file there"):
        source.load()
