"""torchvision's classification sets: by their class names, through torchvision's own classes."""

from __future__ import annotations

import importlib.util
import inspect
import io
import os
import subprocess
import sys
import urllib.request
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision.datasets
from layouts import md5, pixels, refused, tar_of, write_tree
from picture_files import RAMP, oriented, saved, see_through, tiff
from PIL import Image
from tiny_study import TINY_SWEEP
from torchvision_layouts import (
    LAYOUTS,
    clevr,
    country211,
    emnist_letters,
    faces,
    gtsrb,
    imagenette,
    inaturalist,
    pets,
    qmnist,
    rendered_sst2,
    textures,
    usps,
)

from rfray.data import torchvision_reader
from rfray.data.augment import POLICIES
from rfray.data.background import use_background
from rfray.data.cache import prepared, prepared_path
from rfray.data.device import normalised
from rfray.data.facts import REFUSED, SETS
from rfray.data.pictures import fitted
from rfray.data.registry import DATASETS, dataset_source
from rfray.data.torchvision_reader import source
from rfray.plan import make_plan
from rfray.study.sweep_file import load_study

DOCS = Path(__file__).resolve().parents[2] / "docs" / "data.md"


@pytest.fixture(autouse=True)
def _as_in_a_new_process():
    torchvision_reader._source.cache_clear()


@pytest.fixture(autouse=True)
def _no_network(monkeypatch):
    def unreachable(*_, **__):
        raise OSError("no network in tests")

    monkeypatch.setattr(urllib.request, "urlopen", unreachable)


def put(root, written):
    write_tree(root, written.files)
    return written.known


def scaled(array, size):
    return fitted(Image.fromarray(array).convert("RGB"), size)


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.__name__)
def test_every_picture_and_label_is_read(data_root, monkeypatch, layout):
    written = layout(monkeypatch)
    known = put(data_root, written)
    read = source(known, 20)
    facts = read.facts
    assert (facts.name, facts.classes, facts.image_size) == (known.name, known.classes, 20)
    assert facts.augmentation in POLICIES
    for split, entries in ((read.load().train, written.train), (read.load().test, written.test)):
        assert split.labels.tolist() == [int(label) for _, label in entries]
        expected = np.stack([scaled(array, 20).transpose(2, 0, 1) for array, _ in entries])
        assert np.array_equal(split.images.numpy(), expected)


def test_pictures_of_one_size_keep_it_and_grey_becomes_three_channels(data_root):
    written = emnist_letters(None)
    dataset = prepared(source(put(data_root, written), None))
    assert dataset.facts.image_size == 28
    grey = np.stack([array for array, _ in written.train])
    assert all(np.array_equal(dataset.train.images[:, c].numpy(), grey) for c in range(3))


def test_their_own_size_and_the_same_size_asked_for_are_one_data_set(data_root):
    known = put(data_root, qmnist(None))
    assert source(known, 28).facts == source(known, None).facts
    assert source(known, 14).facts.fingerprint != source(known, 28).facts.fingerprint


@pytest.mark.parametrize("layout", [pets, textures, gtsrb])
def test_pictures_of_many_sizes_need_one(data_root, layout):
    known = put(data_root, layout(None))
    with refused(
        rf"{known.name}: its pictures do not have the same size: .*'data: {{image_size: 64}}"
    ):
        source(known, None)


def test_mean_and_deviation_are_those_of_the_training_pixels_as_they_are_trained_on(data_root):
    read = source(put(data_root, pets(None)), 16)
    pixels = read.load().train.images.double() / 255
    assert read.facts.mean == pytest.approx(pixels.mean((0, 2, 3)).tolist(), abs=1e-14)
    deviation = pixels.std((0, 2, 3), correction=0).tolist()
    assert read.facts.deviation == pytest.approx(deviation, abs=1e-14)
    channels = normalised(read.load().train.images, read.facts).transpose(0, 1).flatten(1)
    assert channels.mean(1).abs().max() < 1e-5


def test_pictures_that_stay_as_they_were_keep_their_fingerprint_and_so_their_keys(data_root):
    known = put(data_root, gtsrb(None))
    for background in (None, "white"):
        use_background(background)
        assert source(known, 24).facts.fingerprint == "GTSRB-70ecc986286d9060cf092cce"
        assert source(known, 24).facts.findings == ()


def test_photographs_are_turned_and_it_is_said(data_root):
    written = imagenette(None)
    name = "imagenette2-160/train/n01440764/n01440764_1.JPEG"
    content = oriented(pixels(24, 24, 3, seed=8), 6, "JPEG", quality=95)
    known = put(data_root, replace_file(written, name, content))
    read = source(known, 24)
    stored = np.asarray(Image.open(io.BytesIO(content)))
    assert np.array_equal(
        read.load().train.images[0].permute(1, 2, 0).numpy(), np.rot90(stored, -1)
    )
    assert read.facts.findings == ("1 picture is turned as its EXIF orientation says",)
    torchvision_reader._source.cache_clear()
    assert source(known, 24).facts.findings == read.facts.findings  # remembered


@pytest.mark.parametrize("layout", [rendered_sst2, pets, clevr])
def test_transparent_parts_are_refused_or_laid_on_a_background(data_root, layout):
    written = layout(None)
    name = next(name for name in written.files if name.endswith((".png", ".jpg")))
    known = put(data_root, replace_file(written, name, saved(see_through(), "PNG")))
    with refused(rf"^{data_root}/{name}: it has transparent parts"):
        source(known, 20)
    fingerprints = set()
    for colour, value in (("white", 255), ("black", 0)):
        use_background(colour)
        read = source(known, 20)
        fingerprints.add(read.facts.fingerprint)
        assert any(
            (image[:, :10] == value).all() and not (image[:, 10:] == value).all()
            for image in read.load().train.images
        )
        assert any(f"is put on #{value:02x}" in finding for finding in read.facts.findings)
    assert len(fingerprints) == 2


def test_grey_of_16_bits_is_scaled_and_values_of_an_unknown_range_are_refused(data_root):
    written = rendered_sst2(None)
    name = next(iter(written.files))
    known = put(data_root, replace_file(written, name, saved(RAMP, "PNG")))
    read = source(known, 256)
    assert read.load().train.images[0].double().mean() == 127.5
    assert read.facts.findings == ("1 picture of more than 8 bits per channel is scaled to 8",)
    (data_root / name).write_bytes(tiff(RAMP.astype("f4"), sample_format=3))
    torchvision_reader._source.cache_clear()
    with refused(rf"^{data_root}/{name}: its pixels are floating-point numbers"):
        source(known, 20)


def test_test_pictures_that_are_training_pictures_are_counted(data_root):
    written = country211(None)
    twice = written.files["country211/train/AE/b.jpg"]
    known = put(data_root, replace_file(written, "country211/test/AD/c.jpg", twice))
    assert source(known, 24).facts.findings == ("1 of 2 test pictures is a training picture too",)


def test_the_fingerprint_follows_every_pixel_and_label(data_root):
    written = textures(None)
    known = put(data_root, written)
    names = ["dtd/dtd/images/woven/woven_0009.jpg", "dtd/dtd/labels/test1.txt"]
    seen = [source(known, 24).facts.fingerprint]
    first, second = written.files[names[1]].splitlines()
    changes = [written.files["dtd/dtd/images/woven/woven_0001.jpg"], second + b"\n" + first + b"\n"]
    for name, content in zip(names, changes, strict=True):
        (data_root / name).write_bytes(content)
        torchvision_reader._source.cache_clear()
        seen.append(source(known, 24).facts.fingerprint)
    assert len(set(seen)) == 3


def test_the_fingerprint_does_not_depend_on_the_order_in_which_a_folder_lists_its_files(
    data_root, monkeypatch, tmp_path
):
    known = put(data_root, inaturalist(None))
    fingerprint = source(known, 16).facts.fingerprint
    listed = os.listdir
    monkeypatch.setattr(os, "listdir", lambda path: sorted(listed(path), reverse=True))
    torchvision_reader._source.cache_clear()
    monkeypatch.setenv("RFRAY_DATA", str(tmp_path / "elsewhere"))
    write_tree(tmp_path / "elsewhere", inaturalist(None).files)
    assert source(known, 16).facts.fingerprint == fingerprint


def test_the_pictures_are_read_once_and_the_prepared_copy_is_written_then(data_root, monkeypatch):
    known = put(data_root, usps(None))
    read = source(known, None)
    assert prepared_path(read).is_file()
    torchvision_reader._source.cache_clear()
    monkeypatch.setattr(torchvision_reader, "opened", lambda *_: pytest.fail("read again"))
    again = source(known, None)
    assert again.facts == read.facts
    assert len(prepared(again).train) == len(prepared(read).train) == 12


def test_remembered_facts_need_no_torch(data_root):
    put(data_root, qmnist(None))
    code = (
        "import sys\n"
        "from dataclasses import replace\n"
        "from rfray.data.torchvision_reader import source\n"
        "from rfray.data.facts import SETS\n"
        "print(source(replace(SETS['QMNIST'], counts=(12, 7)), None).facts.fingerprint)\n"
        "print(sorted({'torch', 'torchvision', 'numpy', 'PIL'} & set(sys.modules)))\n"
    )
    outputs = [
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        for _ in range(2)
    ]
    (first, loaded), (second, nothing) = (output.stdout.splitlines() for output in outputs)
    assert first == second
    assert ("torch" in loaded, nothing) == (True, "[]")


def test_pictures_that_changed_after_planning_are_refused(data_root):
    read = source(put(data_root, gtsrb(None)), 24)
    path = data_root / "gtsrb/GTSRB/Final_Test/Images/00001.ppm"
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    with refused(r"GTSRB: its pictures have changed since the sweep was planned"):
        read.load()


def test_an_archive_put_there_by_hand_is_extracted(data_root, monkeypatch):
    written = imagenette(None)
    packed = tar_of(written.files)
    archive = replace(written.known.archives[0], md5=md5(packed))
    known = replace(written.known, archives=(archive,))
    url = archive.urls[0]
    reader = torchvision.datasets.Imagenette
    monkeypatch.setitem(reader._ARCHIVES, "160px", (url, archive.md5))
    (data_root / archive.name).write_bytes(packed)
    assert len(source(known, 16).load().train) == 3
    assert (data_root / "imagenette2-160/val").is_dir()


def test_a_truncated_archive_is_refused_before_it_is_extracted(data_root):
    known = imagenette(None).known
    (data_root / known.archives[0].name).write_bytes(b"half of it")
    with refused(r"imagenette2-160\.tgz: not the published file, or truncated: its 10 bytes"):
        source(known, 16)
    assert not (data_root / "imagenette2-160").exists()


def test_a_truncated_file_that_is_read_as_it_is_is_refused(data_root):
    written = usps(None)
    name = "USPS/usps.t.bz2"
    put(data_root, replace_file(written, name, written.files[name][:-9]))
    with refused(r"USPS/usps\.t\.bz2: not the published file, or truncated"):
        source(written.known, None)


def replace_file(written, name, content):
    return replace(written, files={**written.files, name: content})


def test_without_files_it_says_which_to_put_where(data_root):
    for known, message in (
        (SETS["Food101"], rf"{data_root}/food-101\.tar\.gz: missing, .*put the file from http"),
        (SETS["USPS"], rf"{data_root}/USPS/usps\.bz2: missing, .*put the file from https"),
        (SETS["ImageNet"], rf"{data_root}/ImageNet/train: missing \(put the pictures there"),
        (SETS["FER2013"], rf"{data_root}/fer2013: missing \(put fer2013\.csv"),
    ):
        with refused(message):
            source(known, 64)


HALF = {
    "pictures of a class are missing": (
        imagenette,
        "imagenette2-160/train/n01440764/n01440764_2.JPEG",
        r"Imagenette-160px: half extracted.* has 2 pictures, expected 3 \(delete .*imagenette2-160",
    ),
    "a class is missing": (
        imagenette,
        "imagenette2-160/train/n02102040/n02102040_1.JPEG",
        r"Imagenette-160px, training split: torchvision cannot read it: .* no valid file",
    ),
    "a listed picture is missing": (
        textures,
        "dtd/dtd/images/woven/woven_0001.jpg",
        r"woven_0001\.jpg: torchvision cannot read it: FileNotFoundError",
    ),
    "a list is missing": (
        pets,
        "oxford-iiit-pet/annotations/test.txt",
        r"OxfordIIITPet, test split: torchvision cannot read it: .*test\.txt",
    ),
    "what an archive held is missing": (
        gtsrb,
        "gtsrb/GT-final_test.csv",
        r"gtsrb/GTSRB-Training_fixed\.zip: missing, and the download failed",
    ),
}


@pytest.mark.parametrize("case", HALF)
def test_what_is_half_extracted_is_refused(data_root, case):
    layout, gone, message = HALF[case]
    known = put(data_root, layout(None))
    (data_root / gone).unlink()
    with refused(message):
        source(known, 16)
    assert list((data_root / "prepared").glob("*.safetensors")) == []


@pytest.mark.parametrize("layout", [imagenette, pets, textures, gtsrb])
def test_a_damaged_picture_is_refused_by_name(data_root, layout):
    written = layout(None)
    name = next(name for name in written.files if name.endswith((".jpg", ".JPEG", ".ppm")))
    put(data_root, replace_file(written, name, written.files[name][:300]))
    with refused(rf"{data_root}/{name}: truncated, or not a picture \(replace it\)"):
        source(written.known, 16)


def test_a_truncated_idx_file_is_refused(data_root):
    written = emnist_letters(None)
    name = "EMNIST/raw/emnist-letters-train-images-idx3-ubyte"
    put(data_root, replace_file(written, name, written.files[name][:-28]))
    with refused(r"EMNIST-letters, training split: torchvision cannot read it"):
        source(written.known, None)


def test_a_label_beyond_the_classes_is_refused(data_root):
    written = emnist_letters(None)
    known = replace(put(data_root, written), classes=25)
    with refused(r"EMNIST-letters: a training label is not one of its 25 classes"):
        source(known, None)


def test_test_pictures_without_labels_are_refused(data_root, monkeypatch):
    written = faces(monkeypatch)
    rows = written.files["fer2013/fer2013.csv"].decode().splitlines()[1:]
    tables = {
        "train": ["emotion,pixels", *(row.rpartition(",")[0] for row in rows)],
        "test": ["pixels", *(row.split(",")[1] for row in rows)],
    }
    for split, lines in tables.items():
        content = "\n".join(lines).encode()
        write_tree(data_root, {f"fer2013/{split}.csv": content})
        resources = torchvision.datasets.FER2013._RESOURCES
        monkeypatch.setitem(resources, split, (f"{split}.csv", md5(content)))
    with refused(r"FER2013, picture 0 of the test split: it has no label"):
        source(replace(written.known, counts=(4, 4)), None)


@pytest.mark.parametrize("name", ["EMNIST", "QMNIST"])
def test_a_cache_that_torchvision_would_unpickle_is_refused(data_root, name):
    write_tree(data_root, {f"{name}/processed/training.pt": b"\x80"})
    with refused(rf"{data_root}/{name}/processed: torchvision would unpickle"):
        source(SETS[name], None)


def test_no_set_but_cifar_is_read_by_a_class_that_unpickles():
    """CIFAR's own reader in rfray unpickles, after verifying; torchvision's is not used."""
    for known in SETS.values():
        module = inspect.getsource(inspect.getmodule(getattr(torchvision.datasets, known.reader)))
        assert "pickle" not in module, known.name
        assert known.unverified or "torch.load" not in module, known.name


def test_a_missing_package_is_named(data_root, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with refused(r"PCAM: reading it needs h5py \(install h5py\)"):
        source(SETS["PCAM"], None)


def test_every_class_of_torchvision_is_there_or_refused_with_a_reason():
    classes = {
        name
        for name in torchvision.datasets.__all__
        if inspect.isclass(getattr(torchvision.datasets, name))
    }
    assert classes - DATASETS.keys() - REFUSED.keys() == set()
    assert REFUSED.keys() - classes == {"LSUNClass"} - classes
    assert REFUSED.keys().isdisjoint(DATASETS)


@pytest.mark.parametrize("name", SETS)
def test_what_is_published_is_what_torchvision_says(name):
    known = SETS[name]
    reader = getattr(torchvision.datasets, known.reader)
    options = {"download": True} if known.archives else {}
    for arguments in (known.train, known.test):
        inspect.signature(reader).bind(**{"root": "", **arguments, **options})
    text = inspect.getsource(inspect.getmodule(reader))
    for file in (*known.archives, *known.files):
        assert file.md5 in text or known.reader == "FGVCAircraft"
        for word in file.urls[0].rpartition("/")[::2]:
            assert word in text or word.rpartition("/")[0] in text or "flowers" in word


@pytest.mark.parametrize("name", SETS)
def test_the_docs_say_the_same(name):
    known = SETS[name]
    (row,) = [line for line in DOCS.read_text().splitlines() if line.startswith(f"| `{name}` |")]
    *_, images, classes, _, augmentation = (cell.strip() for cell in row.strip("|").split("|"))
    train, test = known.counts or (0, 0)
    assert images == (f"{train:,} + {test:,}" if known.counts else "as found")
    assert (classes, augmentation) == (f"{known.classes:,}", known.augmentation)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("EuroSAT", r"torchvision's EuroSAT publishes no training and test split \(choose a split"),
        ("Omniglot", "tests on other classes than it trains on"),
        ("Kinetics", "videos"),
        ("FakeData", "random noise"),
    ],
)
def test_what_cannot_be_trained_on_is_refused_with_the_reason(name, reason):
    with refused(rf"axes\.dataset: torchvision's {name} .*{reason}|{reason}"):
        dataset_source(name)


@pytest.mark.parametrize(
    ("name", "meant"),
    [("Food-101", "Food101"), ("Flower102", "Flowers102"), ("EMNIST-leters", "EMNIST-letters")],
)
def test_an_unknown_name_is_refused_with_the_nearest(name, meant):
    with refused(rf"no data set is called '{name}' \(did you mean '{meant}'\?\)"):
        dataset_source(name)


def test_a_study_over_one_of_them_is_planned(data_root, tmp_path):
    path = tmp_path / "sweep.yaml"
    path.write_text(TINY_SWEEP)
    others = [f"{stage}=false" for stage in ("prune", "finetune", "hessian", "cka", "importance")]
    study = load_study(
        str(path), ["axes.dataset=[EMNIST-letters]", "axes.kernel_size=[3]", *others]
    )
    with refused(rf"^{data_root}/EMNIST/raw/gzip\.zip: missing, .*put the file from https"):
        make_plan(study)
    put(data_root, emnist_letters(None))
    plan = make_plan(study)
    cell = next(iter(plan.nodes.values())).cells[0]
    assert (cell.facts.classes, cell.facts.image_size) == (26, 28)
    assert (cell.facts.train_images, cell.facts.test_images) == (30, 5)


def test_the_registry_reads_them_at_the_size_that_the_name_ends_in(data_root, monkeypatch):
    known = put(data_root, pets(None))
    monkeypatch.setitem(DATASETS, "OxfordIIITPet", lambda size: source(known, size))
    assert dataset_source("OxfordIIITPet@16").facts.image_size == 16
    images = dataset_source("OxfordIIITPet@16").load().train.images
    assert images.shape == torch.Size([2, 3, 16, 16])
