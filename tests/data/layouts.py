"""Small files in the very layouts that data sets are published in."""

from __future__ import annotations

import gzip
import hashlib
import io
import struct
import tarfile
import zipfile
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rfray.data import array_sets, tiny_imagenet
from rfray.data.dataset import DatasetSource
from rfray.data.facts import FACTS
from rfray.data.published import PublishedArchive, PublishedFile
from rfray.errors import UserError


@contextmanager
def refused(match):
    """A UserError of one line that matches."""
    with pytest.raises(UserError, match=match) as caught:
        yield
    assert "\n" not in str(caught.value)


def source_of(load, facts, *published) -> DatasetSource:
    return DatasetSource(facts, partial(load, facts, *published))


def md5(content: bytes) -> str:
    return hashlib.md5(content).hexdigest()


def pixels(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def python2_batch(data, labels, label_key="labels") -> bytes:
    """A CIFAR batch as Python 2 pickled it: protocol 2, byte strings, numpy.core.multiarray."""

    def text(value: str) -> bytes:
        return b"U" + bytes([len(value)]) + value.encode()

    array = b"".join(
        [
            b"cnumpy.core.multiarray\n_reconstruct\n",
            b"cnumpy\nndarray\nK\x00\x85" + text("b") + b"\x87R",
            b"(K\x01J" + struct.pack("<i", data.shape[0]) + b"M",
            struct.pack("<H", data.shape[1]) + b"\x86",
            b"cnumpy\ndtype\n" + text("u1") + b"K\x00K\x01\x87R",
            b"(K\x03" + text("|") + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb",
            b"\x89T" + struct.pack("<i", data.size) + data.tobytes() + b"tb",
        ]
    )
    numbers = b"](" + b"".join(b"K" + bytes([label]) for label in labels) + b"e"
    names = b"](" + b"".join(text(f"picture_{n}.png") for n in range(len(labels))) + b"e"
    entries = [text("batch_label") + text("a batch"), text(label_key) + numbers]
    entries += [text("data") + array, text("filenames") + names]
    return b"\x80\x02}q\x01(" + b"".join(entries) + b"u."


def tar_of(contents) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as archive:
        for name, content in contents.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return file.getvalue()


def write_tree(root: Path, contents) -> None:
    for name, content in contents.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def published_archive(name, contents, urls=()) -> tuple[PublishedArchive, bytes]:
    packed = tar_of({**contents, f"{name}.readme": b"more than is needed"})
    members = tuple(PublishedFile(member, md5(content)) for member, content in contents.items())
    return PublishedArchive(PublishedFile(name, md5(packed), urls), members), packed


def cifar10(images_a_batch=4):
    """Source, files by name, the packed archive, and all batches' rows and labels in order."""
    names = [member.name for member in array_sets.CIFAR10.members]
    rows = [pixels(images_a_batch, 3072, seed=seed) for seed in range(len(names))]
    labels = [[(batch + n) % 10 for n in range(images_a_batch)] for batch in range(len(names))]
    contents = {
        name: python2_batch(*batch) for name, *batch in zip(names, rows, labels, strict=True)
    }
    published, packed = published_archive("cifar-10-python.tar.gz", contents)
    facts = replace(FACTS["cifar10"], train_images=5 * images_a_batch, test_images=images_a_batch)
    source = source_of(array_sets.cifar, facts, published, "labels")
    return source, contents, packed, rows, labels


def jpeg(picture) -> bytes:
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "JPEG", quality=95)
    return file.getvalue()


def png(picture) -> bytes:
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "PNG")
    return file.getvalue()


WNIDS = ("n02124075", "n01443537", "n04067472")  # not in alphabetical order, as the real ones


def tiny_tree(per_class=3, validation=6):
    """Files of the Tiny ImageNet folder by name; one training picture is grey, as some are."""
    tree = {
        "wnids.txt": "".join(f"{wnid}\n" for wnid in WNIDS).encode(),
        "words.txt": b"n00000001\tan entity\n",
        "test/images/test_0.JPEG": jpeg(pixels(64, 64, 3, seed=99)),
    }
    for number, wnid in enumerate(WNIDS):
        boxes = []
        for n in range(per_class):
            shape = (64, 64) if (number, n) == (0, 0) else (64, 64, 3)
            picture = jpeg(pixels(*shape, seed=10 * number + n))
            tree[f"train/{wnid}/images/{wnid}_{n}.JPEG"] = picture
            boxes.append(f"{wnid}_{n}.JPEG\t0\t0\t63\t63\n")
        tree[f"train/{wnid}/{wnid}_boxes.txt"] = "".join(boxes).encode()
    rows = []
    for n in range(validation):
        tree[f"val/images/val_{n}.JPEG"] = jpeg(pixels(64, 64, 3, seed=500 + n))
        rows.append(f"val_{n}.JPEG\t{WNIDS[(n * 2) % 3]}\t0\t0\t63\t63\n")
    tree["val/val_annotations.txt"] = "".join(rows).encode()
    return {f"{tiny_imagenet.FOLDER}/{name}": content for name, content in tree.items()}


def zip_of(contents) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in contents.items():
            archive.writestr(name, content)
    return file.getvalue()


def tiny_source(tree, per_class=3, validation=6):
    packed = zip_of(tree)
    facts = replace(
        FACTS["tiny_imagenet"],
        classes=len(WNIDS),
        train_images=per_class * len(WNIDS),
        test_images=validation,
    )
    archive = PublishedFile("tiny-imagenet-200.zip", md5(packed))
    return source_of(tiny_imagenet.load, facts, archive), packed


def idx_file(array) -> bytes:
    header = struct.pack(">HBB", 0, 8, array.ndim) + struct.pack(f">{array.ndim}I", *array.shape)
    return header + array.tobytes()


def fashion(train=12, test=5):
    """Source, .gz files by name, and arrays (train images, train labels, test …)."""
    arrays = [
        pixels(train, 28, 28, seed=1),
        np.arange(train, dtype=np.uint8) % 10,
        pixels(test, 28, 28, seed=2),
        np.arange(test, dtype=np.uint8) % 10,
    ]
    names = [file.name for file in array_sets.idx_files("FashionMNIST")]
    contents = dict(zip(names, map(idx_file, arrays), strict=True))
    packed = {name: gzip.compress(content) for name, content in contents.items()}
    files = [
        PublishedFile(name, md5(packed[name]), contents_md5=md5(contents[name])) for name in names
    ]
    facts = replace(FACTS["FashionMNIST"], train_images=train, test_images=test)
    return source_of(array_sets.idx, facts, files), packed, arrays


def svhn_source(root: Path, train=6, test=3):
    from scipy.io import savemat

    arrays, published = [], []
    for place, (template, count) in enumerate(zip(array_sets.SVHN, (train, test), strict=True)):
        images = pixels(32, 32, 3, count, seed=place)
        labels = (np.arange(count, dtype=np.uint8) % 10 + 1)[:, None]
        path = root / template.name
        path.parent.mkdir(parents=True, exist_ok=True)
        savemat(path, {"X": images, "y": labels})
        arrays += [images, labels]
        published.append(PublishedFile(template.name, md5(path.read_bytes())))
    facts = replace(FACTS["SVHN"], train_images=train, test_images=test)
    return source_of(array_sets.svhn, facts, *published), arrays


def stl10_source(train=3, test=2):
    contents = {}
    for member, count in zip(array_sets.STL10.members, (train, train, test, test), strict=True):
        labels = member.name.endswith("_y.bin")
        array = np.arange(count) + 1 if labels else pixels(count, 3, 96, 96)
        contents[member.name] = array.astype(np.uint8).tobytes()
    published, packed = published_archive("stl10_binary.tar.gz", contents)
    facts = replace(FACTS["STL10"], train_images=train, test_images=test)
    return source_of(array_sets.stl10, facts, published), contents, packed
