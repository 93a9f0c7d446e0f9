"""A user's own pictures: facts and fingerprint come from the files."""

from __future__ import annotations

import hashlib
import io
import os

import numpy as np
import pytest
import torch
import torchvision
from layouts import jpeg, pixels, png, refused, write_tree
from picture_files import RAMP, oriented, saved, see_through, tiff
from PIL import Image

from rfray.data import image_folder
from rfray.data.background import use_background
from rfray.data.cache import prepared
from rfray.data.device import normalised

NAME = image_folder.NAME


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


def by_name(root):
    """PPM files whose content follows from their names: 8 pixels a side."""
    for split, count in (("train", 3), ("test", 2)):
        for name in ("ant", "bee"):
            for n in range(count):
                path = f"{split}/{name}/{n}.ppm"
                content = hashlib.shake_256(path.encode()).digest(3 * 8 * 8)
                write_tree(root, {path: b"P6 8 8 255\n" + content})


def test_pictures_that_are_read_as_ever_keep_their_fingerprint_and_so_their_keys(tmp_path):
    by_name(tmp_path)
    for background in (None, "#ffffff"):
        facts = image_folder.image_folder(tmp_path, background=background).facts
        assert facts.fingerprint == "imagefolder-a6c96fa8e882deaeba28f8d9"  # as released
        assert facts.mean == (0.4924, 0.4828, 0.5067)
    facts = image_folder.image_folder(tmp_path, 6).facts
    assert facts.fingerprint == "imagefolder-6px-a6c96fa8e882deaeba28f8d9"


CHANGED = {
    "grey of 16 bits": saved(RAMP[:20, :20] * 9, "PNG"),
    "an orientation": oriented(pixels(20, 20, 3), 3, "PNG"),
}


def before(listing):
    """The fingerprint of a folder whose pictures are all read as they are stored."""
    digest = hashlib.blake2b(b"imagefolder-v1", digest_size=12)
    for name, _ in (*listing.train, *listing.test):
        content = (listing.folder / name).read_bytes()
        digest.update(f"\n{name}\n{len(content)}\n".encode() + content)
    return f"imagefolder-{digest.hexdigest()}"


@pytest.mark.parametrize("case", CHANGED)
def test_pictures_that_are_read_otherwise_than_before_get_another_fingerprint(data_root, case):
    put(data_root, {**tree(), "train/ant/0.png": CHANGED[case]})
    facts = image_folder.source().facts
    assert facts.fingerprint != before(image_folder.list_pictures(data_root / NAME))
    put(data_root, tree())
    image_folder._image_folder.cache_clear()
    facts = image_folder.source().facts
    assert facts.fingerprint == before(image_folder.list_pictures(data_root / NAME))
    put(data_root, {"train/ant/0.png": CHANGED[case]})
    image_folder._image_folder.cache_clear()
    assert len(prepared(image_folder.source()).train) == 6


def test_the_background_enters_the_fingerprint_where_it_changes_a_picture(data_root):
    put(data_root, {**tree(), "train/ant/0.png": saved(see_through(), "PNG")})
    with refused(r"train/ant/0\.png: it has transparent parts, and no background colour"):
        image_folder.source()
    fingerprints = set()
    for colour, value in (("white", 255), ("#000000", 0), ("black", 0)):
        use_background(colour)
        source = image_folder.source()
        fingerprints.add(source.facts.fingerprint)
        assert (prepared(source).train.images[0, :, :10] == value).all()
    assert len(fingerprints) == 2


def test_the_fingerprint_follows_every_byte_and_name(data_root, tmp_path):
    put(data_root, tree())
    fingerprint = image_folder.source().facts.fingerprint
    other = tmp_path / "elsewhere"
    write_tree(other, tree())
    assert image_folder.image_folder(other).facts.fingerprint == fingerprint
    (other / "train/bee/1.png").write_bytes(png(pixels(20, 20, 3, seed=4242)))
    image_folder._image_folder.cache_clear()
    changed = image_folder.image_folder(other).facts.fingerprint
    assert changed != fingerprint
    (other / "train/bee/1.png").rename(other / "train/bee/9.png")
    image_folder._image_folder.cache_clear()
    assert image_folder.image_folder(other).facts.fingerprint not in (changed, fingerprint)


def test_facts_are_remembered_until_a_file_changes(data_root, monkeypatch):
    put(data_root, tree())
    facts = image_folder.source().facts
    image_folder._image_folder.cache_clear()
    with monkeypatch.context() as patch:
        patch.setattr(image_folder, "_opened", lambda *_: pytest.fail("read again"))
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


def test_pictures_in_folders_below_a_class_are_read_as_torchvision_reads_them(data_root):
    files = tree()
    for name in ("sub/1.png", "sub/deeper/A.PNG", "sub-b/2.png", "1.jpeg", "Z.TIF"):
        content = saved(pixels(20, 20, 3, seed=len(files)), "PNG")
        files[f"train/ant/{name}"] = content
    put(data_root, files)
    linked = data_root / "linked"
    write_tree(linked, {"7.png": png(pixels(20, 20, 3, seed=700))})
    (data_root / NAME / "train/bee/link").symlink_to(linked)
    (data_root / NAME / "train/bee/8.png").symlink_to(linked / "7.png")
    listing = image_folder.list_pictures(data_root / NAME)
    for split, found in (("train", listing.train), ("test", listing.test)):
        expected = torchvision.datasets.ImageFolder(data_root / NAME / split)
        root = data_root / NAME
        assert [(str(root / name), label) for name, label in found] == expected.samples
        assert list(listing.classes) == expected.classes
    assert len(listing.train) == 6 + 5 + 2
    assert image_folder.source().facts.train_images == 13


def test_a_link_that_leads_back_up_is_refused(data_root):
    put(data_root, tree())
    (data_root / NAME / "train/ant/again").symlink_to(data_root / NAME / "train")
    with refused(r"train/ant/again/ant: the link leads back to a folder above it"):
        image_folder.source()


def test_a_link_to_nothing_is_refused(data_root):
    put(data_root, tree())
    (data_root / NAME / "train/ant/7.png").symlink_to(data_root / "gone.png")
    with refused(r"train/ant/7\.png: it is not a file, nor a link to one"):
        image_folder.source()


def test_what_is_left_out_is_told_by_reason(data_root):
    put(
        data_root,
        {
            **tree(),
            "train/ant/moving.gif": b"",
            "train/ant/MOVING.GIF": b"",
            "train/bee/notes.txt": b"",
            "train/bee/sub/notes.xcf": b"",
            "train/bee/README": b"",
            "train/ant/.DS_Store": b"",
            "train/ant/._0.png": b"",
            "train/.DS_Store": b"",
            "train/ant/.cache/1.png": b"",
            "test/.ipynb_checkpoints/1.png": b"",
            "test/ant/.cache/1.png": b"",
            "train/lost.png": b"",
            "extra/1.png": b"",
            "val/ant/1.png": b"",
            ".git/1.png": b"",
        },
    )
    assert image_folder.source().facts.findings == (
        "12 files are left out: 6 hidden, 2 GIF, 1 in no class's folder, "
        "3 of unknown ending (no ending, .txt, .xcf)",
        "train/ and test/ are read, not extra/, val/ beside them",
    )


def test_what_is_left_out_is_told_as_it_is_now(data_root):
    put(data_root, tree())
    fingerprint = image_folder.source().facts.fingerprint
    assert image_folder.source().facts.findings == ()
    put(data_root, {"train/ant/a.gif": b""})
    image_folder._image_folder.cache_clear()
    facts = image_folder.source().facts
    assert facts.findings == ("1 file is left out: 1 GIF",)
    assert facts.fingerprint == fingerprint


def test_test_pictures_that_are_training_pictures_are_counted(data_root):
    files = tree()
    files["test/bee/0.png"] = files["train/ant/1.png"]
    # Equal pixels in another file, of another format.
    picture = Image.open(io.BytesIO(files["train/bee/2.png"]))
    files["test/bee/1.bmp"] = saved(picture, "BMP")
    files["train/bee/again.png"] = files["train/bee/2.png"]  # twice in one split says nothing
    put(data_root, files)
    for size in (None, 10):
        findings = image_folder.image_folder(data_root / NAME, size).facts.findings
        assert findings == ("2 of 5 test pictures are training pictures too",)


def test_a_test_split_that_is_the_training_split_is_told(data_root):
    files = tree()
    train = {name: content for name, content in files.items() if name.startswith("train/")}
    put(data_root, {**train, **{f"test{n.removeprefix('train')}": c for n, c in train.items()}})
    findings = ("6 of 6 test pictures are training pictures too",)
    assert image_folder.source().facts.findings == findings
    image_folder._image_folder.cache_clear()
    assert image_folder.source().facts.findings == findings  # remembered


WRONG = {
    "a single class": (
        {"train/bee": None, "test/bee": None},
        r"imagefolder/train: there is only one class, 'ant' \(put the pict",
    ),
    "values of an unknown range": (
        {
            "train/ant/1.tif": tiff(
                np.linspace(0, 1, 400, dtype="f4").reshape(20, 20), sample_format=3
            )
        },
        r"train/ant/1\.tif: its pixels are floating-point numbers",
    ),
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
        r"test/bee/1\.jpg: truncated, or not a picture",
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
    gone = tuple(name for name, content in files.items() if content is None)
    files = {**tree(), **files}
    put(data_root, {name: c for name, c in files.items() if not name.startswith(gone or "?")})
    with refused(message):
        image_folder.source()


def test_without_a_folder_it_says_what_to_put_where(data_root):
    with refused(rf"{data_root}/imagefolder/train: there is no such folder \(put pictures there"):
        image_folder.source()
    put(data_root, {"train/ant/0.png": png(pixels(20, 20, 3))})
    with refused(r"imagefolder/test: there is no such folder"):
        image_folder.source()
