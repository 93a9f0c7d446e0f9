"""SVHN's MATLAB files and STL-10's binary files."""

from __future__ import annotations

import numpy as np
import torch
from layouts import pixels, refused, stl10_source, svhn_source, write_tree


def test_svhn_is_read_and_ten_means_zero(data_root):
    source, (images, labels, *_) = svhn_source(data_root, train=12)
    train = source.load().train
    assert np.array_equal(train.images.numpy(), images.transpose(3, 2, 0, 1))
    assert train.labels.tolist() == [int(label) % 10 for label in labels[:, 0]]
    assert set(train.labels.tolist()) == set(range(10))


def test_a_foreign_matlab_file_is_refused(data_root):
    source, _ = svhn_source(data_root)
    path = data_root / "SVHN" / "test_32x32.mat"
    path.write_bytes(path.read_bytes()[:-20])
    with refused(r"test_32x32\.mat: not the published file, or truncated"):
        source.load()


def test_stl10_is_stored_by_columns_and_counts_from_one(data_root):
    source, contents, packed = stl10_source()
    (data_root / "stl10_binary.tar.gz").write_bytes(packed)
    train = source.load().train
    assert train.labels.tolist() == [0, 1, 2]
    stored = torch.from_numpy(pixels(3, 3, 96, 96))
    assert torch.equal(train.images, stored.transpose(2, 3))
    (data_root / "stl10_binary.tar.gz").unlink()
    write_tree(data_root, contents)
    assert torch.equal(source.load().train.images, train.images)
