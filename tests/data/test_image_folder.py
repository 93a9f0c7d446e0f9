"""A user's own pictures: facts and fingerprint come from the files."""

from __future__ import annotations

import os

import pytest
import torch
from layouts import jpeg, pixels, png, refused, write_tree

from rfray.data import image_folder
from rfray.data.cache import prepared
from rfray.data.device import normalised


@pytest.fixture(autouse=True)
def _as_in_a_new_process():
    image_folder._image_folder.cache_clear()


def tree(test="test", size=20):
    files = {}
    for split, count in (("train", 3), (test, 2)):
        for label, name in enumerate(("ant", "bee")):
            for n in range(count):
                picture = pixels(size, size, 3, seed=100 * label + 10 * n + len(split))
                files[f"{split}/{name}/{n}.png"] = png(picture)
    return files


def put(root, files):
    write_tree(root / "imagefolder", files)


@pytest.mark.parametrize("test", ["test", "val"])
def test_facts_come_from_the_files(data_root, test):
    put(data_root, {**tree(test), "train/ant/notes.txt": b"no picture", "readme.md": b""})
    source = image_folder.source()
    facts = source.facts
    assert (facts.classes, facts.image_size) == (2, 20)
    assert (facts.train_images, facts.test_images) == (6, 4)
    dataset = prepared(source)
    assert dataset.train.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert torch.equal(
        dataset.train.images[1], torch.from_numpy(pixels(20, 20, 3, seed=15)).permute(2, 0, 1)
    )
    channels = normalised(dataset.train.images, facts).transpose(0, 1).flatten(1)
    assert channels.mean(1).abs().max() < 1e-3
    assert (channels.std(1) - 1).abs().max() < 1e-3


def test_the_fingerprint_follows_every_byte_and_name(data_root, tmp_path):
    put(data_root, tree())
    fingerprint = image_folder.source().facts.fingerprint
    other = tmp_path / "elsewhere"
    write_tree(other, tree())
    assert image_folder.image_folder(other).facts.fingerprint == fingerprint
    assert image_folder.read_facts(image_folder.list_pictures(other)).fingerprint == fingerprint
    (other / "train/bee/1.png").write_bytes(png(pixels(20, 20, 3, seed=4242)))
    listing = image_folder.list_pictures(other)
    changed = image_folder.read_facts(listing).fingerprint
    assert changed != fingerprint
    (other / "train/bee/1.png").rename(other / "train/bee/9.png")
    listing = image_folder.list_pictures(other)
    assert image_folder.read_facts(listing).fingerprint not in (changed, fingerprint)


def test_facts_are_remembered_until_a_file_changes(data_root, monkeypatch):
    put(data_root, tree())
    facts = image_folder.source().facts
    image_folder._image_folder.cache_clear()
    with monkeypatch.context() as patch:
        patch.setattr(image_folder, "read_facts", lambda listing: pytest.fail("read again"))
        assert image_folder.source().facts == facts
    path = data_root / "imagefolder/train/ant/0.png"
    path.write_bytes(png(pixels(20, 20, 3, seed=77)))
    os.utime(path, ns=(1, 1))
    image_folder._image_folder.cache_clear()
    assert image_folder.source().facts.fingerprint != facts.fingerprint


def test_pictures_that_changed_after_planning_are_refused(data_root):
    put(data_root, tree())
    source = image_folder.source()
    (data_root / "imagefolder/test/ant/0.png").write_bytes(png(pixels(20, 20, 3, seed=77)))
    with refused(r"imagefolder: its pictures have changed since the sweep was planned"):
        source.load()


WRONG = {
    "another size": (
        {"train/bee/1.png": png(pixels(20, 24, 3))},
        r"train/bee/1\.png: the picture is 24×20 pixels, expected 20×20",
    ),
    "not square": (
        {"train/ant/0.png": png(pixels(20, 24, 3))},
        r"train/ant/0\.png: the picture is 24×20 pixels, expected 20×20",
    ),
    "half a picture": (
        {"test/bee/1.jpg": jpeg(pixels(20, 20, 3))[:400]},
        r"test/bee/1\.jpg: truncated, or no picture",
    ),
    "a class without a test": (
        {"train/cat/0.png": png(pixels(20, 20, 3))},
        r"imagefolder/test: the class 'cat' of train/ is missing",
    ),
    "a class without a training": (
        {"test/cat/0.png": png(pixels(20, 20, 3))},
        r"imagefolder/train: the class 'cat' of test/ is missing",
    ),
    "an empty class": (
        {"train/cat/a.txt": b"", "test/cat/0.png": png(pixels(20, 20, 3))},
        r"train/cat: the class has no picture",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_refused_by_name(data_root, case):
    files, message = WRONG[case]
    put(data_root, {**tree(), **files})
    with refused(message):
        image_folder.source()


def test_without_a_folder_it_says_what_to_put_where(data_root):
    with refused(rf"{data_root}/imagefolder/train: there is no such folder \(put pictures there"):
        image_folder.source()
    put(data_root, {"train/ant/0.png": png(pixels(20, 20, 3))})
    with refused(r"imagefolder/test: there is no such folder"):
        image_folder.source()
