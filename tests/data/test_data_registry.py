"""Names, facts that need no file, and what is published under which checksum."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torchvision.datasets as torchvision_sets
from layouts import refused

from rfray.data import array_sets
from rfray.data.augment import POLICIES
from rfray.data.folders import data_folder, prepared_folder, use_data_root
from rfray.data.registry import FIXED, dataset_source


@pytest.mark.parametrize(
    ("name", "meant"),
    [("cifar01", "cifar10"), ("Fashion_MNIST", "FashionMNIST"), ("tinyimagenet", "tiny_imagenet")],
)
def test_an_unknown_name_is_refused_with_the_nearest(name, meant):
    with refused(rf"axes\.dataset: no data set is called '{name}' \(did you mean '{meant}'\?\)"):
        dataset_source(name)


def test_facts_are_known_without_files_or_torch(tmp_path):
    code = (
        "import sys\n"
        "from rfray.data.registry import FIXED, dataset_source\n"
        "for name in FIXED: print(dataset_source(name).facts.fingerprint)\n"
        "heavy = {'torch', 'torchvision', 'sklearn', 'scipy', 'numpy', 'PIL'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "digits-v1" in done.stdout.split()


@pytest.mark.parametrize("name", FIXED)
def test_facts_are_possible(name):
    facts = dataset_source(name).facts
    assert facts.augmentation in POLICIES
    assert set(facts.fingerprint) <= set(
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-"
    )
    assert all(0 < value < 1 for value in (*facts.mean, *facts.deviation))


def test_a_class_name_is_the_same_data_set():
    assert dataset_source("CIFAR10") is dataset_source("cifar10")


@pytest.mark.parametrize(
    ("published", "oracle"),
    [
        (array_sets.CIFAR10, torchvision_sets.CIFAR10),
        (array_sets.CIFAR100, torchvision_sets.CIFAR100),
    ],
)
def test_cifar_is_published_as_torchvision_says(published, oracle):
    assert published.archive.md5 == oracle.tgz_md5
    assert published.archive.urls == (oracle.url,)
    members = [(member.name, member.md5) for member in published.members]
    expected = [
        (f"{oracle.base_folder}/{n}", md5) for n, md5 in oracle.train_list + oracle.test_list
    ]
    assert members == expected  # in that order, the test split last


@pytest.mark.parametrize(
    "oracle", [torchvision_sets.MNIST, torchvision_sets.FashionMNIST, torchvision_sets.KMNIST]
)
def test_idx_files_are_published_as_torchvision_says(oracle):
    packed = array_sets.idx_files(oracle.__name__)
    for file, (name, md5) in zip(packed, oracle.resources, strict=True):
        assert file.name == f"{oracle.__name__}/raw/{name}"
        assert file.md5 == md5
        assert file.urls == tuple(mirror + name for mirror in oracle.mirrors)


def test_svhn_and_stl10_are_published_as_torchvision_says():
    for file, split in zip(array_sets.SVHN, ("train", "test"), strict=True):
        url, name, md5 = torchvision_sets.SVHN.split_list[split]
        assert (file.urls, file.name, file.md5) == ((url,), f"SVHN/{name}", md5)
    oracle = torchvision_sets.STL10
    assert array_sets.STL10.archive.md5 == oracle.tgz_md5
    known = dict(oracle.train_list + oracle.test_list)
    for member in array_sets.STL10.members:
        assert known[member.name.removeprefix("stl10_binary/")] == member.md5


def test_the_data_folder_is_where_the_user_says(monkeypatch, tmp_path):
    monkeypatch.setenv("RFRAY_DATA", "~/pictures")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert data_folder() == tmp_path / "pictures"
    assert prepared_folder() == tmp_path / "pictures" / "prepared"
    use_data_root(str(tmp_path / "chosen"))
    assert data_folder() == tmp_path / "chosen"
    use_data_root(None)
    assert data_folder() == tmp_path / "pictures"  # another study leaves it to RFRAY_DATA
    monkeypatch.delenv("RFRAY_DATA")
    assert data_folder() == tmp_path / ".cache" / "rfray"


def test_a_read_only_data_folder_keeps_its_prepared_copies_elsewhere(monkeypatch, tmp_path):
    (tmp_path / "shared").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("RFRAY_DATA", str(tmp_path / "shared"))
    monkeypatch.setattr("os.access", lambda path, mode: False)
    assert prepared_folder() == tmp_path / ".cache" / "rfray" / "prepared"
