"""CIFAR's pickles: read as torchvision reads them, and verified before they are unpickled."""

from __future__ import annotations

import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch
import torchvision
from layouts import cifar10, md5, published_archive, python2_batch, refused, write_tree

from rfray.data import array_sets
from rfray.data.facts import FACTS
from rfray.data.published import PublishedFile


def put(root, form, contents, packed):
    if form == "archive":
        (root / "cifar-10-python.tar.gz").write_bytes(packed)
    else:
        write_tree(root, contents)


@pytest.mark.parametrize("form", ["archive", "folder"])
def test_batches_become_images_in_order(data_root, form):
    source, contents, packed, rows, labels = cifar10()
    put(data_root, form, contents, packed)
    dataset = source.load()
    expected = np.concatenate(rows[:5]).reshape(-1, 3, 32, 32)
    assert np.array_equal(dataset.train.images.numpy(), expected)
    assert np.array_equal(dataset.test.images.numpy(), rows[5].reshape(-1, 3, 32, 32))
    assert dataset.train.labels.tolist() == [n for batch in labels[:5] for n in batch]
    assert dataset.test.labels.tolist() == labels[5]
    assert dataset.train.labels.dtype == torch.int64
    assert not (data_root / "cifar-10-batches-py").exists() or form == "folder"


@pytest.mark.filterwarnings("ignore")
def test_they_are_what_torchvision_reads(data_root):
    source, contents, *_ = cifar10()
    contents["cifar-10-batches-py/batches.meta"] = pickle.dumps({"label_names": []}, protocol=2)
    write_tree(data_root, contents)

    class SmallCifar(torchvision.datasets.CIFAR10):
        train_list = [[f"data_batch_{n}", None] for n in range(1, 6)]
        test_list = [["test_batch", None]]
        meta = {"filename": "batches.meta", "key": "label_names", "md5": None}

    dataset = source.load()
    for split, train in ((dataset.train, True), (dataset.test, False)):
        oracle = SmallCifar(data_root, train=train)
        assert np.array_equal(split.images.permute(0, 2, 3, 1).numpy(), oracle.data)
        assert split.labels.tolist() == oracle.targets


def test_cifar100_has_fine_labels(data_root):
    contents = {
        name: python2_batch(np.zeros((2, 3072), np.uint8), [3, 99], "fine_labels")
        for name in ("cifar-100-python/train", "cifar-100-python/test")
    }
    published, packed = published_archive("cifar-100-python.tar.gz", contents)
    (data_root / "cifar-100-python.tar.gz").write_bytes(packed)
    dataset = array_sets.cifar(FACTS["cifar100"], published, "fine_labels")
    assert dataset.train.labels.tolist() == [3, 99]


def test_a_truncated_archive_is_refused(data_root):
    source, _, packed, *_ = cifar10()
    (data_root / "cifar-10-python.tar.gz").write_bytes(packed[:-100])
    with refused(r"cifar-10-python\.tar\.gz: .*truncated.*MD5 \w{32}, expected \w{32}"):
        source.load()


def test_a_half_extracted_folder_is_refused(data_root):
    source, contents, *_ = cifar10()
    del contents["cifar-10-batches-py/data_batch_4"]
    write_tree(data_root, contents)
    with refused(r"cifar-10-batches-py: .*half extracted: 5 of 6 files, 'data_batch_4' is missing"):
        source.load()


def test_a_truncated_batch_is_refused(data_root):
    source, contents, *_ = cifar10()
    name = "cifar-10-batches-py/data_batch_2"
    write_tree(data_root, {**contents, name: contents[name][:5000]})
    with refused(r"data_batch_2: .*its 5,000 bytes have the MD5"):
        source.load()


class Payload:
    """Unpickling it would create the file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (self.path, "w")


def test_a_foreign_pickle_is_never_opened(data_root, tmp_path):
    source, contents, *_ = cifar10()
    trap = tmp_path / "opened"
    bomb = pickle.dumps({"data": Payload(str(trap)), "labels": []}, protocol=2)
    write_tree(data_root, {**contents, "cifar-10-batches-py/test_batch": bomb})
    with refused(r"test_batch: not the published file"):
        source.load()
    # Even if its checksum were the published one.
    published = source.load.args[1]
    members = tuple(
        replace(member, md5=md5(bomb)) if member.name.endswith("test_batch") else member
        for member in published.members
    )
    with refused(r"test_batch: not a CIFAR batch: it wants to create a .*open"):
        array_sets.cifar(source.facts, replace(published, members=members), "labels")
    assert not trap.exists()


def test_a_missing_archive_says_what_to_put_where(data_root):
    source, *_ = cifar10()
    published = source.load.args[1]
    url = (data_root / "nowhere" / "cifar-10-python.tar.gz").as_uri()
    gone = replace(published, archive=replace(published.archive, urls=(url,)))
    with refused(rf"{data_root}/cifar-10-python\.tar\.gz: missing, and the download failed.*put"):
        array_sets.cifar(source.facts, gone, "labels")
    assert list(data_root.iterdir()) == []


def test_it_is_downloaded_where_the_machine_may(data_root, tmp_path):
    source, _, packed, *_ = cifar10()
    (tmp_path / "offered").write_bytes(packed)
    (tmp_path / "broken").write_bytes(packed[:50])
    published = source.load.args[1]
    archive = PublishedFile(
        "cifar-10-python.tar.gz",
        published.archive.md5,
        ((tmp_path / "broken").as_uri(), (tmp_path / "offered").as_uri()),
    )
    dataset = array_sets.cifar(source.facts, replace(published, archive=archive), "labels")
    assert len(dataset.train) == 20
    assert [path.name for path in data_root.iterdir()] == ["cifar-10-python.tar.gz"]
