"""Tiny ImageNet: its folders, its odd validation folder, its zip file."""

from __future__ import annotations

import io
from functools import partial

import numpy as np
import pytest
import torch
from layouts import WNIDS, jpeg, pixels, refused, tiny_source, tiny_tree, write_tree
from picture_files import RAMP, oriented, saved, see_through
from PIL import Image

from rfray.data import registry
from rfray.data.cache import prepared
from rfray.data.resized import resized
from rfray.data.tiny_imagenet import UNVERIFIED

ROOT = "tiny-imagenet-200"


def rgb(content):
    return torch.from_numpy(np.array(Image.open(io.BytesIO(content)).convert("RGB"))).permute(
        2, 0, 1
    )


@pytest.mark.parametrize("form", ["zip", "folder"])
def test_pictures_and_labels_are_read(data_root, form):
    tree = tiny_tree()
    source, packed = tiny_source(tree)
    if form == "zip":
        (data_root / "tiny-imagenet-200.zip").write_bytes(packed)
    else:
        write_tree(data_root, tree)
    dataset = source.load()
    assert dataset.train.labels.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert dataset.test.labels.tolist() == [0, 2, 1, 0, 2, 1]
    for place in range(9):
        wnid = WNIDS[place // 3]
        expected = rgb(tree[f"{ROOT}/train/{wnid}/images/{wnid}_{place % 3}.JPEG"])
        assert torch.equal(dataset.train.images[place], expected)
    for place in range(6):
        expected = rgb(tree[f"{ROOT}/val/images/val_{place}.JPEG"])
        assert torch.equal(dataset.test.images[place], expected)
    grey = dataset.train.images[0]
    assert torch.equal(grey[0], grey[2])


HALVES = {
    "a training picture": (
        f"train/{WNIDS[1]}/images/{WNIDS[1]}_1.JPEG",
        rf"train/{WNIDS[1]}/images holds 2 pictures, expected 3",
    ),
    "a validation picture": ("val/images/val_5.JPEG", r"val/images holds 5 pictures, expected 6"),
    "the annotations": ("val/val_annotations.txt", r"val/val_annotations.txt is missing"),
    "the classes": ("wnids.txt", r"wnids.txt is missing"),
}


@pytest.mark.parametrize("case", HALVES)
def test_a_half_extracted_folder_is_refused(data_root, case):
    missing, message = HALVES[case]
    tree = tiny_tree()
    source, _ = tiny_source(tree)
    del tree[f"{ROOT}/{missing}"]
    write_tree(data_root, tree)
    with refused(f"{ROOT}: half extracted: {message}"):
        source.load()


def changed(name, content):
    return {**tiny_tree(), f"{ROOT}/{name}": content}


DAMAGES = {
    "half a picture": (
        changed("val/images/val_2.JPEG", tiny_tree()[f"{ROOT}/val/images/val_2.JPEG"][:900]),
        r"val_2\.JPEG: truncated, or not a picture",
    ),
    "an empty picture": (
        changed("val/images/val_2.JPEG", b""),
        r"val_2\.JPEG: truncated, or not a picture",
    ),
    "another size": (
        changed("val/images/val_3.JPEG", jpeg(pixels(64, 32, 3))),
        r"val_3\.JPEG: the picture is 32×64 pixels, expected 64×64",
    ),
    "half the annotations": (
        changed("val/val_annotations.txt", b"val_0.JPEG\tn02124075\t0\t0\t63\t63\n"),
        r"val_annotations.txt holds 1 rows, expected 6",
    ),
    "a foreign class": (
        changed("val/val_annotations.txt", b"val_0.JPEG\tn999\t0\t0\t63\t63\n" * 6),
        r"val_annotations.txt names an unknown class",
    ),
    "half the classes": (
        changed("wnids.txt", b"n02124075\n"),
        r"wnids.txt names 1 classes, expected 3",
    ),
}


@pytest.mark.parametrize("case", DAMAGES)
def test_a_damaged_folder_is_refused(data_root, case):
    tree, message = DAMAGES[case]
    write_tree(data_root, tree)
    with refused(message):
        tiny_source(tiny_tree())[0].load()


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (
            oriented(pixels(64, 64, 3), 6, "JPEG"),
            r"not a published picture: it would have to be turned",
        ),
        (saved(see_through(64), "PNG"), r"it has transparent parts"),
        (
            saved(RAMP[:64, :64], "PNG"),
            r"not a published picture: it would have to be scaled to 8 bits",
        ),
    ],
)
def test_a_picture_that_is_not_as_published_is_refused(data_root, content, why):
    tree = tiny_tree()
    source, _ = tiny_source(tree)
    name = f"{ROOT}/train/{WNIDS[1]}/images/{WNIDS[1]}_2.JPEG"
    write_tree(data_root, {**tree, name: content})
    with refused(rf"{name}: {why}"):
        source.load()


def test_a_truncated_archive_is_refused(data_root):
    source, packed = tiny_source(tiny_tree())
    (data_root / "tiny-imagenet-200.zip").write_bytes(packed[:-10])
    with refused(r"tiny-imagenet-200\.zip: not the published file, or truncated"):
        source.load()


def test_without_files_it_says_what_to_put_where(data_root):
    source, _ = tiny_source(tiny_tree())
    with refused(rf"{data_root}/tiny-imagenet-200\.zip: missing.*put the published file there"):
        source.load()


@pytest.mark.parametrize("size", [None, 32])
def test_the_plan_says_that_nobody_could_check_an_extracted_folder(data_root, monkeypatch, size):
    tree = tiny_tree()
    source, packed = tiny_source(tree)
    monkeypatch.setitem(registry.DATASETS, "tiny_imagenet", partial(resized, source))
    name = "tiny_imagenet" if size is None else f"tiny_imagenet@{size}"
    write_tree(data_root, tree)
    assert registry.dataset_findings(name) == ()  # nobody has read it yet
    prepared(registry.dataset_source(name))
    assert registry.dataset_findings(name) == (UNVERIFIED,)
    for copy in (data_root / "prepared").glob("*.safetensors"):
        copy.unlink()
    (data_root / "tiny-imagenet-200.zip").write_bytes(packed)
    prepared(registry.dataset_source(name))
    assert registry.dataset_findings(name) == ()
