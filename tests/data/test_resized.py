"""`data.image_size`, and the size that a data set's name may end in."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from layouts import fashion, jpeg, pixels, png, refused, write_tree
from PIL import Image
from tiny_study import TINY_SWEEP

from rfray.data import image_folder
from rfray.data.cache import prepared
from rfray.data.dataset import DatasetSource
from rfray.data.pictures import fitted
from rfray.data.registry import at_size, dataset_source
from rfray.data.resized import resized, scaled_planes
from rfray.plan import make_plan
from rfray.study.sweep_file import load_study


def plan(tmp_path, *overrides):
    path = tmp_path / "sweep.yaml"
    path.write_text(TINY_SWEEP)
    return make_plan(load_study(str(path), list(overrides)))


@pytest.mark.parametrize(("height", "width"), [(40, 60), (60, 40), (50, 50), (24, 72)])
@pytest.mark.parametrize("size", [16, 20, 64])
def test_the_shorter_side_is_scaled_and_the_centre_cut_out(height, width, size):
    array = pixels(height, width, 3, seed=size)
    shorter = min(height, width)
    planes = torch.from_numpy(array).permute(2, 0, 1)[None].double()
    whole = (height * size // shorter, width * size // shorter)
    oracle = F.interpolate(planes, whole, mode="bilinear", antialias=True)[0]
    top, left = (whole[0] - size) // 2, (whole[1] - size) // 2
    found = torch.from_numpy(fitted(Image.fromarray(array), size).copy()).permute(2, 0, 1)
    difference = found - oracle[:, top : top + size, left : left + size]
    assert difference.abs().max() <= 1.01  # Pillow rounds after each axis


def test_a_picture_of_that_size_is_left_as_it_is():
    array = pixels(20, 20, 3)
    assert np.array_equal(fitted(Image.fromarray(array), 20), array)


def test_a_data_set_of_a_fixed_size_is_scaled(data_root):
    source, packed, (images, labels, *_) = fashion()
    write_tree(data_root, packed)
    smaller = resized(source, 14)
    assert smaller.facts.fingerprint == f"{source.facts.fingerprint}-14px"
    train = prepared(smaller).train
    assert train.labels.tolist() == labels.tolist()
    expected = np.stack([fitted(Image.fromarray(image).convert("RGB"), 14) for image in images])
    assert np.array_equal(train.images.numpy(), expected.transpose(0, 3, 1, 2))
    assert resized(source, 28) is source


@pytest.mark.parametrize(
    ("side", "size"), [(28, 32), (28, 14), (32, 33), (17, 64), (96, 31), (5, 1)]
)
@pytest.mark.parametrize("kind", ["in colour", "grey", "grey but for one"])
def test_thousands_of_pictures_at_once_get_the_pixels_of_one_at_a_time(side, size, kind):
    images = pixels(7, 3, side, side, seed=size)
    if kind != "in colour":
        images[: 7 if kind == "grey" else 6, 1:] = images[: 7 if kind == "grey" else 6, :1]
    expected = [
        fitted(Image.fromarray(np.ascontiguousarray(image.transpose(1, 2, 0))), size)
        for image in images
    ]
    found = scaled_planes(torch.from_numpy(images), size)
    assert np.array_equal(found.numpy(), np.stack(expected).transpose(0, 3, 1, 2))


def test_a_source_is_checked_against_its_own_facts_before_it_is_scaled(data_root):
    source, packed, _ = fashion()
    write_tree(data_root, packed)
    facts = replace(source.facts, train_images=13)
    more = DatasetSource(facts, lambda: replace(source.load(), facts=facts))
    with refused(r"FashionMNIST: its training images have the shape \(12, 3, 28, 28\), expected"):
        resized(more, 14).load()


def test_the_size_enters_the_name_the_facts_and_every_key(tmp_path):
    native, larger = plan(tmp_path), plan(tmp_path, "data.image_size=48")
    assert {cell.dataset for cell in cells(larger)} == {"digits@48"}
    assert {cell.facts.image_size for cell in cells(larger)} == {48}
    assert larger.study.document()["axes"]["dataset"] == ["digits@48"]
    shared = native.nodes.keys() & larger.nodes.keys()
    assert all("importance" in native.nodes[key].name for key in shared)


def cells(planned):
    return [cell for node in planned.nodes.values() for cell in node.cells]


def test_a_data_sets_own_size_changes_no_key(tmp_path):
    for overrides in (["data.image_size=32"], ["axes.dataset=[digits@32]"]):
        assert plan(tmp_path, *overrides).nodes.keys() == plan(tmp_path).nodes.keys()


def test_sizes_can_be_an_axis(tmp_path):
    both = plan(tmp_path, "axes.dataset=[digits, digits@48]")
    assert {cell.facts.image_size for cell in cells(both)} == {32, 48}


def test_a_size_in_the_name_goes_before_the_studys():
    assert at_size("cifar10@64", 48) == "cifar10@64"
    assert at_size("cifar10", 48) == "cifar10@48"
    assert at_size("cifar10", 32) == at_size("cifar10@32", 48) == "cifar10"
    assert at_size("DTD", None) == "DTD"


@pytest.mark.parametrize("name", ["digits@", "digits@0", "digits@big", "digits@-3", "digits@6.5"])
def test_what_is_no_size_is_refused(name):
    with refused(rf"'{name}' has no size in pixels \(write 'digits@64'\)"):
        dataset_source(name)


@pytest.mark.parametrize("size", ["0", "-1", "large"])
def test_a_study_needs_a_possible_size(tmp_path, size):
    with refused(r"data\.image_size"):
        plan(tmp_path, f"data.image_size={size}")


def test_a_users_pictures_of_many_sizes_need_one(data_root):
    image_folder._image_folder.cache_clear()
    shapes = {"train/ant/0": (20, 30), "train/bee/0": (40, 24), "test/ant/0": (22, 22)}
    files = {f"{name}.png": png(pixels(*shape, 3)) for name, shape in shapes.items()}
    files["test/bee/0.jpg"] = jpeg(pixels(33, 21, 3))
    write_tree(data_root / "imagefolder", files)
    with refused(r"ant/0\.png: the picture is 30×20 .*'data: \{image_size: 64\}'"):
        dataset_source("imagefolder")
    source = dataset_source("imagefolder@16")
    assert source.facts.fingerprint.startswith("imagefolder-16px-")
    assert source.facts.fingerprint != dataset_source("imagefolder@18").facts.fingerprint
    image = prepared(source).train.images[0]
    expected = fitted(Image.fromarray(pixels(20, 30, 3)), 16)
    assert np.array_equal(image.numpy(), expected.transpose(2, 0, 1))
