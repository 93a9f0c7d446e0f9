"""The idx files of MNIST and its likes."""

from __future__ import annotations

import gzip
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
import torchvision
from layouts import fashion, idx_file, refused, write_tree

from rfray.data import array_sets
from rfray.data.cache import prepared
from rfray.data.dataset import problem_with

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


def test_files_that_somebody_compressed_anew_are_taken(data_root):
    source, packed, (images, *_) = fashion()
    anew = {name: gzip.compress(gzip.decompress(file), 1) for name, file in packed.items()}
    assert all(anew[name] != packed[name] for name in packed)
    write_tree(data_root, anew)
    assert np.array_equal(source.load().train.images[:, 0].numpy(), images)


@pytest.mark.parametrize("form", ["compressed", "unpacked"])
def test_other_contents_are_refused(data_root, form):
    source, _, arrays = fashion()
    arrays[0][3, 14, 14] ^= 1  # one pixel, by one
    changed = unpacked(arrays)
    if form == "compressed":
        changed = {f"{name}.gz": gzip.compress(content) for name, content in changed.items()}
    write_tree(data_root, changed)
    with refused(r"train-images-idx3-ubyte(\.gz)?: not the published file, or truncated"):
        source.load()


def test_a_truncated_published_file_is_refused(data_root):
    source, packed, _ = fashion()
    name = f"{RAW}/train-images-idx3-ubyte.gz"
    write_tree(data_root, {**packed, name: packed[name][:-7]})
    with refused(r"train-images-idx3-ubyte\.gz: it cannot be unpacked"):
        source.load()


@pytest.mark.parametrize("form", ["compressed anew", "unpacked"])
def test_what_nobody_can_verify_is_refused(data_root, form):
    source, packed, _ = fashion()
    published = source.load.args[1]
    kuzushiji = [replace(file, contents_md5="") for file in published]
    load = partial(array_sets.idx, source.facts, kuzushiji)
    write_tree(data_root, packed)
    assert load().train.images.shape == (12, 3, 28, 28)
    name = f"{RAW}/train-images-idx3-ubyte"
    (data_root / f"{name}.gz").unlink()
    content = gzip.decompress(packed[f"{name}.gz"])
    if form == "unpacked":
        write_tree(data_root, {name: content})
        why = "there is no published checksum of the unpacked file.*put the published train-images"
    else:
        write_tree(data_root, {f"{name}.gz": gzip.compress(content, 1)})
        why = "not the published file, or truncated"
    with refused(why):
        load()


def test_files_of_a_system_package_are_found(data_root, tmp_path):
    source, packed, (images, *_) = fashion()
    installed = {name.rsplit("/", 1)[1]: file for name, file in packed.items()}
    write_tree(tmp_path / "package", installed)
    dataset = array_sets.idx(source.facts, source.load.args[1], tmp_path / "package")
    assert np.array_equal(dataset.train.images[:, 0].numpy(), images)


def test_debians_fashion_mnist_is_the_published_one(data_root, debians_fashion_mnist):
    source = array_sets.SOURCES["FashionMNIST"]
    dataset = source.load()  # checks the MD5 of all four files' contents
    assert problem_with(dataset) is None
    assert torch.bincount(dataset.train.labels).tolist() == [6000] * 10
    pixels = dataset.train.images[:, 0].double() / 255
    assert round(float(pixels.mean()), 4) == source.facts.mean[0]
    assert round(float(pixels.std(correction=0)), 4) == source.facts.deviation[0]


def test_a_truncated_unpacked_file_is_refused(data_root):
    source, _, arrays = fashion()
    files = unpacked(arrays)
    name = f"{RAW}/t10k-images-idx3-ubyte"
    write_tree(data_root, {**files, name: files[name][:-28]})
    with refused(r"t10k-images-idx3-ubyte: not the published file, or truncated: its 3,908 bytes"):
        source.load()


def test_another_format_is_refused(data_root):
    source, _, arrays = fashion()
    name = f"{RAW}/train-labels-idx1-ubyte"
    write_tree(data_root, {**unpacked(arrays), name: b"<html>404</html>"})
    with refused(r"train-labels-idx1-ubyte: not the published file, or truncated: its 16 bytes"):
        source.load()


def test_another_number_of_images_is_refused(data_root):
    source, _, arrays = fashion()
    write_tree(data_root, unpacked([array[:4] for array in arrays]))
    with refused(r"train-images-idx3-ubyte: not the published file, or truncated: its 3,152 bytes"):
        prepared(source)
    assert list((data_root / "prepared").glob("*.safetensors")) == []


def test_a_missing_file_says_what_to_put_where(data_root):
    source, packed, _ = fashion()
    name = f"{RAW}/t10k-labels-idx1-ubyte.gz"
    del packed[name]
    write_tree(data_root, packed)
    with refused(rf"{data_root}/{name}: missing.*put the published file there"):
        source.load()
