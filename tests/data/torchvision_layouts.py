"""Small files in the layouts in which torchvision's classes look for their data sets."""

from __future__ import annotations

import bz2
import io
import json
from dataclasses import dataclass, replace

import numpy as np
import torchvision
from layouts import idx_file, jpeg, md5, pixels, png
from PIL import Image

from rfray.data.facts import SETS, TorchvisionSet


@dataclass
class Written:
    """A set as its publisher would have written it, were it tiny.

    `train` and `test` hold each picture as it must be read, uint8 (height, width) or
    (height, width, 3), and its class.
    """

    known: TorchvisionSet
    files: dict[str, bytes]
    train: list
    test: list


def tiny(name, contents, train, test, **known):
    counts = (len(train), len(test))
    return Written(replace(SETS[name], counts=counts, **known), contents, train, test)


def picture(place, height=24, width=24):
    return pixels(height, width, 3, seed=place)


def as_jpeg(place, height=24, width=24):
    """A JPEG file, and what its pixels are after compression."""
    content = jpeg(picture(place, height, width))
    return content, np.asarray(Image.open(io.BytesIO(content)))


def as_ppm(array) -> bytes:
    height, width = array.shape[:2]
    return f"P6 {width} {height} 255\n".encode() + array.tobytes()


def as_mat(contents) -> bytes:
    from scipy.io import savemat

    file = io.BytesIO()
    savemat(file, contents)
    return file.getvalue()


def in_folders(placed):
    """Files, training and test entries from (split, path, label, height, width)."""
    files, entries = {}, {"train": [], "test": []}
    for place, (split, path, label, *size) in enumerate(placed):
        files[path], array = as_jpeg(place, *size)
        entries[split].append((array, label))
    return files, entries["train"], entries["test"]


def emnist_letters(_):
    """Labels count from 1."""
    raw, files, entries = "EMNIST/raw/emnist-letters", {}, []
    for part, count in (("train", 30), ("test", 5)):
        grey = pixels(count, 28, 28, seed=count)
        labels = np.arange(count, dtype=np.uint8) % 26 + 1
        files[f"{raw}-{part}-images-idx3-ubyte"] = idx_file(grey)
        files[f"{raw}-{part}-labels-idx1-ubyte"] = idx_file(labels)
        entries.append([(grey[n], labels[n] - 1) for n in range(count)])
    return tiny("EMNIST-letters", files, *entries)


def qmnist(_):
    """A label is a row of eight big-endian integers, the first of which is the class."""
    files, entries = {}, []
    for part, count in (("train", 12), ("test", 7)):
        grey = pixels(count, 28, 28, seed=count)
        rows = np.zeros((count, 8), dtype=">i4")
        rows[:, 0] = np.arange(count) % 10
        rows[:, 1:] = 99
        header = b"\0\0\x0c\x02" + np.array(rows.shape, dtype=">u4").tobytes()
        files[f"QMNIST/raw/qmnist-{part}-images-idx3-ubyte"] = idx_file(grey)
        files[f"QMNIST/raw/qmnist-{part}-labels-idx2-int"] = header + rows.tobytes()
        entries.append([(grey[n], n % 10) for n in range(count)])
    return tiny("QMNIST", files, *entries)


def usps(_):
    """Lines of libsvm: the class from 1, then pixels from -1 to 1."""
    files, entries, published = {}, [], []
    for file, count in zip(SETS["USPS"].files, (12, 4), strict=True):
        grey = pixels(count, 16, 16, seed=count)
        lines = [
            f"{n % 10 + 1} "
            + " ".join(f"{i}:{v:.6f}" for i, v in enumerate(grey[n].ravel() / 127.5 - 1, 1))
            for n in range(count)
        ]
        files[file.name] = bz2.compress("".join(f"{line} \n" for line in lines).encode())
        published.append(replace(file, md5=md5(files[file.name])))
        # torchvision truncates where it might round.
        values = [[float(v.split(":")[1]) for v in line.split()[1:]] for line in lines]
        read = ((np.float32(values) + 1) / 2 * 255).astype(np.uint8).reshape(-1, 16, 16)
        entries.append([(read[n], n % 10) for n in range(count)])
    return tiny("USPS", files, *entries, files=tuple(published))


def imagenette(_):
    tench, springer = "n01440764", "n02102040"
    return tiny(
        "Imagenette-160px",
        *in_folders(
            [
                ("train", f"imagenette2-160/train/{tench}/{tench}_1.JPEG", 0, 24, 32),
                ("train", f"imagenette2-160/train/{tench}/{tench}_2.JPEG", 0, 40, 24),
                ("train", f"imagenette2-160/train/{springer}/{springer}_1.JPEG", 1, 24, 24),
                ("test", f"imagenette2-160/val/{tench}/{tench}_9.JPEG", 0, 24, 26),
                ("test", f"imagenette2-160/val/{springer}/{springer}_9.JPEG", 1, 24, 28),
            ]
        ),
    )


def country211(_):
    return tiny(
        "Country211",
        *in_folders(
            [
                ("train", "country211/train/AD/a.jpg", 0),
                ("train", "country211/train/AE/b.jpg", 1),
                ("test", "country211/test/AD/c.jpg", 0),
                ("test", "country211/test/AE/d.jpg", 1),
            ]
        ),
    )


def imagenet(_):
    return tiny(
        "ImageNet",
        *in_folders(
            [
                ("train", "ImageNet/train/n01440764/n01440764_1.JPEG", 0, 30, 24),
                ("train", "ImageNet/train/n01443537/n01443537_1.JPEG", 1),
                ("test", "ImageNet/val/n01440764/ILSVRC2012_val_1.JPEG", 0),
                ("test", "ImageNet/val/n01443537/ILSVRC2012_val_2.JPEG", 1),
            ]
        ),
    )


def inaturalist(_):
    worm = "00000_Animalia_Annelida_Clitellata_Haplotaxida_Lumbricidae_Lumbricus_terrestris"
    leech = "00001_Animalia_Annelida_Clitellata_Hirudinida_Hirudinidae_Hirudo_medicinalis"
    return tiny(
        "INaturalist-mini",
        *in_folders(
            [
                # Written out of order: how a folder lists its files is the file system's choice.
                *(("train", f"INaturalist/2021_train_mini/{worm}/{n}.jpg", 0) for n in "abcdef"),
                ("train", f"INaturalist/2021_train_mini/{leech}/a.jpg", 1),
                ("test", f"INaturalist/2021_valid/{worm}/v.jpg", 0),
                ("test", f"INaturalist/2021_valid/{leech}/v.jpg", 1),
            ]
        ),
    )


def rendered_sst2(_):
    files, entries = {}, {"train": [], "test": []}
    for place, (split, label) in enumerate([("train", 0), ("train", 1), ("test", 0), ("test", 1)]):
        folder = f"rendered-sst2/{split}/{('negative', 'positive')[label]}"
        files[f"{folder}/{place}.png"] = png(picture(place))
        entries[split].append((picture(place), label))
    return tiny("RenderedSST2", files, entries["train"], entries["test"])


def gtsrb(_):
    """Pixmaps in folders for training, a table separated by semicolons for the test."""
    files, train, test = {}, [], []
    for label, size in ((0, 24), (42, 31)):
        # The folders' alphabetical order is the label.
        files[f"gtsrb/GTSRB/Training/{label:05d}/00000_00000.ppm"] = as_ppm(picture(size, size, 29))
        train.append((picture(size, size, 29), len(train)))
    rows = ["Filename;Width;Height;Roi.X1;Roi.Y1;Roi.X2;Roi.Y2;ClassId"]
    for n, label in enumerate((16, 1)):
        files[f"gtsrb/GTSRB/Final_Test/Images/{n:05d}.ppm"] = as_ppm(picture(n))
        rows.append(f"{n:05d}.ppm;24;24;5;5;20;20;{label}")
        test.append((picture(n), label))
    files["gtsrb/GT-final_test.csv"] = "\n".join(rows).encode()
    return tiny("GTSRB", files, train, test)


def pets(_):
    """A list for each split: name, class from 1, species, breed."""
    files, train, test = in_folders(
        [
            ("train", "oxford-iiit-pet/images/Abyssinian_1.jpg", 0, 30, 24),
            ("train", "oxford-iiit-pet/images/beagle_7.jpg", 4, 24, 40),
            ("test", "oxford-iiit-pet/images/Abyssinian_2.jpg", 0, 26, 26),
        ]
    )
    files["oxford-iiit-pet/annotations/trainval.txt"] = b"Abyssinian_1 1 1 1\nbeagle_7 5 2 4\n"
    files["oxford-iiit-pet/annotations/test.txt"] = b"Abyssinian_2 1 1 1\n"
    return tiny("OxfordIIITPet", files, train, test)


def textures(_):
    files, train, test = in_folders(
        [
            ("train", "dtd/dtd/images/banded/banded_0002.jpg", 0, 30, 24),
            ("train", "dtd/dtd/images/woven/woven_0001.jpg", 1, 24, 48),
            ("test", "dtd/dtd/images/banded/banded_0009.jpg", 0, 24, 26),
            ("test", "dtd/dtd/images/woven/woven_0009.jpg", 1),
        ]
    )
    files["dtd/dtd/labels/train1.txt"] = b"banded/banded_0002.jpg\nwoven/woven_0001.jpg\n"
    files["dtd/dtd/labels/test1.txt"] = b"banded/banded_0009.jpg\nwoven/woven_0009.jpg\n"
    return tiny("DTD", files, train, test)


def food(_):
    files, train, test = in_folders(
        [
            ("train", "food-101/images/apple_pie/1.jpg", 0),
            ("train", "food-101/images/waffles/2.jpg", 1),
            ("test", "food-101/images/apple_pie/3.jpg", 0),
            ("test", "food-101/images/waffles/4.jpg", 1),
        ]
    )
    for split, (first, second) in (("train", "12"), ("test", "34")):
        table = {"apple_pie": [f"apple_pie/{first}"], "waffles": [f"waffles/{second}"]}
        files[f"food-101/meta/{split}.json"] = json.dumps(table).encode()
    return tiny("Food101", files, train, test)


def aircraft(_):
    data = "fgvc-aircraft-2013b/data"
    files, train, test = in_folders(
        [
            ("train", f"{data}/images/0000001.jpg", 1, 30, 44),
            ("test", f"{data}/images/0000002.jpg", 0, 28, 40),
        ]
    )
    files[f"{data}/variants.txt"] = b"707-320\nAn-12\n"
    files[f"{data}/images_variant_trainval.txt"] = b"0000001 An-12\n"
    files[f"{data}/images_variant_test.txt"] = b"0000002 707-320\n"
    return tiny("FGVCAircraft", files, train, test)


def flowers(monkeypatch):
    """Two MATLAB files: the classes of all pictures from 1, and the numbers in each split."""
    files, train, test = in_folders(
        [
            ("train", "flowers-102/jpg/image_00002.jpg", 76, 30, 44),
            ("test", "flowers-102/jpg/image_00001.jpg", 101, 28, 40),
            ("test", "flowers-102/jpg/image_00003.jpg", 0, 28, 40),
        ]
    )
    contents = {
        "imagelabels.mat": as_mat({"labels": np.array([[102, 77, 1]], dtype=np.uint8)}),
        "setid.mat": as_mat(
            {
                "trnid": np.array([[2, 2]], dtype=np.uint16),
                "valid": np.array([[2, 2]], dtype=np.uint16),
                "tstid": np.array([[1, 3]], dtype=np.uint16),
            }
        ),
    }
    published = tuple(
        replace(file, md5=md5(contents[file.name.rpartition("/")[2]]))
        for file in SETS["Flowers102"].files
    )
    checked = {
        key: (name, md5(contents[name]))
        for key, name in (("label", "imagelabels.mat"), ("setid", "setid.mat"))
    }
    monkeypatch.setattr(torchvision.datasets.Flowers102, "_file_dict", checked)
    files |= {f"flowers-102/{name}": content for name, content in contents.items()}
    return tiny("Flowers102", files, train * 2, test, files=published)


def cars(_):
    folder = "stanford_cars"
    files, train, test = in_folders(
        [
            ("train", f"{folder}/cars_train/00001.jpg", 13, 30, 44),
            ("train", f"{folder}/cars_train/00002.jpg", 0, 30, 24),
            ("test", f"{folder}/cars_test/00001.jpg", 195, 28, 40),
            ("test", f"{folder}/cars_test/00002.jpg", 1, 28, 40),
        ]
    )
    fields = [("class", np.uint8), ("fname", object)]
    tables = {
        "devkit/cars_train_annos.mat": [(14, "00001.jpg"), (1, "00002.jpg")],
        "cars_test_annos_withlabels.mat": [(196, "00001.jpg"), (2, "00002.jpg")],
    }
    for name, rows in tables.items():
        files[f"{folder}/{name}"] = as_mat({"annotations": np.array([rows], dtype=fields)})
    names = np.array([["Acura TL", "Audi 100"]], dtype=object)
    files[f"{folder}/devkit/cars_meta.mat"] = as_mat({"class_names": names})
    return tiny("StanfordCars", files, train, test)


def faces(monkeypatch):
    """One table: class, pixels in words, usage."""
    rows, entries = ["emotion,pixels,Usage"], {"train": [], "test": []}
    for n, usage in enumerate(["Training", "PublicTest", "Training", "PrivateTest"]):
        grey = pixels(48, 48, seed=n)
        rows.append(f"{n},{' '.join(map(str, grey.ravel()))},{usage}")
        entries["train" if usage == "Training" else "test"].append((grey, n))
    content = "\n".join(rows).encode()
    resources = torchvision.datasets.FER2013._RESOURCES
    monkeypatch.setitem(resources, "fer", ("fer2013.csv", md5(content)))
    files = {"fer2013/fer2013.csv": content}
    return tiny("FER2013", files, entries["train"], entries["test"])


def clevr(_):
    """The class is how many objects a scene has, 3 to 10."""
    folder, files, entries = "clevr/CLEVR_v1.0", {}, []
    for split, counts in (("train", (3, 10)), ("val", (4, 5))):
        scenes, found = [], []
        for n, objects in enumerate(counts):
            name = f"CLEVR_{split}_{n:06d}.png"
            array = picture(objects, 32, 48)
            files[f"{folder}/images/{split}/{name}"] = png(array)
            scenes.append({"image_filename": name, "objects": [{}] * objects})
            found.append((array, objects - 3))
        table = json.dumps({"scenes": scenes}).encode()
        files[f"{folder}/scenes/CLEVR_{split}_scenes.json"] = table
        entries.append(found)
    return tiny("CLEVRClassification", files, *entries)


def places(monkeypatch):
    root = "Places365"
    files, train, test = in_folders(
        [
            ("train", f"{root}/data_256_standard/a/airfield/00000001.jpg", 0),
            ("train", f"{root}/data_256_standard/z/zen_garden/00000001.jpg", 364),
            ("test", f"{root}/val_256/Places365_val_00000001.jpg", 364),
            ("test", f"{root}/val_256/Places365_val_00000002.jpg", 0),
        ]
    )
    tables = {
        "categories_places365.txt": b"/a/airfield 0\n/z/zen_garden 364\n",
        "places365_train_standard.txt": b"/a/airfield/00000001.jpg 0\n"
        b"/z/zen_garden/00000001.jpg 364\n",
        "places365_val.txt": b"Places365_val_00000001.jpg 364\nPlaces365_val_00000002.jpg 0\n",
    }
    reader = torchvision.datasets.Places365
    names = iter(tables)
    first = next(names)
    monkeypatch.setattr(reader, "_CATEGORIES_META", (first, md5(tables[first])))
    for split, name in zip(("train-standard", "val"), names, strict=True):
        monkeypatch.setitem(reader._FILE_LIST_META, split, (name, md5(tables[name])))
    files |= {f"{root}/{name}": content for name, content in tables.items()}
    return tiny("Places365-small", files, train, test)


LAYOUTS = (
    emnist_letters,
    qmnist,
    usps,
    imagenette,
    country211,
    imagenet,
    inaturalist,
    rendered_sst2,
    gtsrb,
    pets,
    textures,
    food,
    aircraft,
    flowers,
    cars,
    faces,
    clevr,
    places,
)
