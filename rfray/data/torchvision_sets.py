"""Which classification sets torchvision reads, and what is known of them.

A plan imports this file, so it knows torchvision by the names of its classes alone. Checksums and
addresses are those in torchvision's own source but for FGVCAircraft's, whose archive it takes
unchecked. Numbers of pictures and classes are those of the publications that torchvision's
documentation names; they are what a half extracted folder is told by.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rfray.data.dataset import AugmentationName
from rfray.data.published import PublishedFile


@dataclass(frozen=True, eq=False)
class TorchvisionSet:
    """A classification set with a training and a test split, read by a class of torchvision.

    All paths lie below the data folder, parts separated by `/`.

    Attributes:
        name: Name in the registry: the class's own, with the variant behind a hyphen if not the
            usual one.
        reader: The class in `torchvision.datasets`.
        train: What to call the class with for the training split; `root`, its folder, is the data
            folder itself where not given.
        test: The same for the test split.
        classes: Number of classes.
        counts: Training and test pictures; None where publications disagree.
        present: Files and folders that are all there once its archives are extracted.
        archives: What torchvision extracts, where it looks for it.
        files: Files that are read as they are.
        by_hand: Where the pictures come from if there is nothing to download.
        first_label: The label of the first class.
        pictures: The reader's attribute that lists each picture's file; empty if the pictures are
            no files.
        labels: The reader's attribute that lists each picture's label, which may be the same list,
            where the reader opens files in a way of its own; empty where it takes a loader.
        unordered: Whether that list is in the order of the file system, so that it must be sorted.
        unverified: Caches that the reader would unpickle, and whose checksum nobody publishes.
        needs: A package that the reader imports and rfray does not require.
        augmentation: How its training images are usually augmented.
    """

    name: str
    reader: str
    train: Mapping[str, Any]
    test: Mapping[str, Any]
    classes: int
    counts: tuple[int, int] | None
    present: tuple[str, ...] = ()
    archives: tuple[PublishedFile, ...] = ()
    files: tuple[PublishedFile, ...] = ()
    by_hand: str = ""
    first_label: int = 0
    pictures: str = ""
    labels: str = ""
    unordered: bool = False
    unverified: str = ""
    needs: str = ""
    augmentation: AugmentationName = "none"


_NIST = "https://biometrics.nist.gov/cs_links/EMNIST/"
_QMNIST = "https://raw.githubusercontent.com/facebookresearch/qmnist/master/"
_LIBSVM = "https://www.csie.ntu.edu.tw/~cjlin/libsvmtools/datasets/multiclass/"
_OXFORD = "https://www.robots.ox.ac.uk/~vgg/data/"
_OPENAI = "https://openaipublic.azureedge.net/clip/data/"
_ERDA = "https://sid.erda.dk/public/archives/daaeac0d7ce1152aea9b61d9f1e19370/"
_FASTAI = "https://s3.amazonaws.com/fast-ai-imageclas/"
_PLACES = "http://data.csail.mit.edu/places/places365/"
_INATURALIST = "https://ml-inat-competition-datasets.s3.amazonaws.com/2021/"


def _published(folder: str, md5: str, address: str, name: str = "") -> PublishedFile:
    """The file at `address`, to lie in `folder` under its own name or `name`."""
    place = name or address.rpartition("/")[2]
    return PublishedFile(f"{folder}/{place}" if folder else place, md5, (address,))


def _emnist(name: str, split: str, classes: int, counts: tuple[int, int] | None) -> TorchvisionSet:
    """One of EMNIST's six ways to part the same scans; Cohen et al., 2017."""
    return TorchvisionSet(
        name=name,
        reader="EMNIST",
        train={"split": split, "train": True},
        test={"split": split, "train": False},
        classes=classes,
        counts=counts,
        present=tuple(
            f"EMNIST/raw/emnist-{split}-{part}-{content}-ubyte"
            for part in ("train", "test")
            for content in ("images-idx3", "labels-idx1")
        ),
        archives=(
            _published("EMNIST/raw", "58c8d27c78d21e728a6bc7b3cc06412e", f"{_NIST}gzip.zip"),
        ),
        first_label=1 if split == "letters" else 0,
        unverified="EMNIST/processed",
    )


def _imagenette(name: str, size: str, archive: str, md5: str) -> TorchvisionSet:
    """Ten easy classes of ImageNet, at one of three sizes; fast.ai, 2019."""
    return TorchvisionSet(
        name=name,
        reader="Imagenette",
        train={"split": "train", "size": size},
        test={"split": "val", "size": size},
        classes=10,
        counts=(9_469, 3_925),
        present=(archive,),
        archives=(_published("", md5, f"{_FASTAI}{archive}.tgz"),),
        pictures="_samples",
        augmentation="resized_crop_flip",
    )


def _aircraft(name: str, level: str, classes: int) -> TorchvisionSet:
    """FGVC-Aircraft at one level of its hierarchy; Maji et al., 2013."""
    return TorchvisionSet(
        name=name,
        reader="FGVCAircraft",
        train={"split": "trainval", "annotation_level": level},
        test={"split": "test", "annotation_level": level},
        classes=classes,
        counts=(6_667, 3_333),
        present=("fgvc-aircraft-2013b",),
        archives=(
            _published(
                "",
                "d4acdd33327262359767eeaa97a4f732",
                f"{_OXFORD}fgvc-aircraft/archives/fgvc-aircraft-2013b.tar.gz",
            ),
        ),
        pictures="_image_files",
        augmentation="resized_crop_flip",
    )


def _places(name: str, size: str, md5s: tuple[str, str]) -> TorchvisionSet:
    """Places365-Standard; Zhou et al., 2017. Its test labels are secret."""
    root, small = "Places365", size == "256"
    return TorchvisionSet(
        name=name,
        reader="Places365",
        train={"root": root, "split": "train-standard", "small": small},
        test={"root": root, "split": "val", "small": small},
        classes=365,
        counts=(1_803_460, 36_500),
        present=tuple(
            f"{root}/{place}"
            for place in (
                "categories_places365.txt",
                "places365_train_standard.txt",
                "places365_val.txt",
                f"data_{size}_standard",
                f"val_{size}",
            )
        ),
        archives=(
            _published(
                root,
                "35a0585fee1fa656440f3ab298f8479c",
                f"{_PLACES}filelist_places365-standard.tar",
            ),
            _published(root, md5s[0], f"{_PLACES}train_{size}_places365standard.tar"),
            _published(root, md5s[1], f"{_PLACES}val_{size}.tar"),
        ),
        pictures="imgs",
        augmentation="resized_crop_flip",
    )


def _inaturalist(name: str, version: str, archive: str, md5: str, train: int) -> TorchvisionSet:
    """The 2021 challenge of iNaturalist; Van Horn et al., 2021. Its test labels are secret."""
    root = "INaturalist"
    return TorchvisionSet(
        name=name,
        reader="INaturalist",
        train={"root": root, "version": version},
        test={"root": root, "version": "2021_valid"},
        classes=10_000,
        counts=(train, 100_000),
        present=(f"{root}/{version}", f"{root}/2021_valid"),
        archives=(
            _published(root, md5, f"{_INATURALIST}{archive}", f"{version}.tgz"),
            _published(
                root,
                "f6f6e0e242e3d4c9569ba56400938afc",
                f"{_INATURALIST}val.tar.gz",
                "2021_valid.tgz",
            ),
        ),
        pictures="index",
        unordered=True,
        augmentation="resized_crop_flip",
    )


_SETS = (
    TorchvisionSet(  # Johnson et al., 2017: how many objects stand there, 3 to 10
        name="CLEVRClassification",
        reader="CLEVRClassification",
        train={"split": "train"},
        test={"split": "val"},
        classes=8,
        counts=(70_000, 15_000),
        present=("clevr/CLEVR_v1.0",),
        archives=(
            _published(
                "clevr",
                "b11922020e72d0cd9154779b2d3d07d2",
                "https://dl.fbaipublicfiles.com/clevr/CLEVR_v1.0.zip",
            ),
        ),
        first_label=3,
        pictures="_image_files",
    ),
    TorchvisionSet(  # Radford et al., 2021
        name="Country211",
        reader="Country211",
        train={"split": "train"},
        test={"split": "test"},
        classes=211,
        counts=(31_650, 21_100),
        present=("country211",),
        archives=(_published("", "84988d7644798601126c29e9877aab6a", f"{_OPENAI}country211.tgz"),),
        pictures="samples",
        augmentation="resized_crop_flip",
    ),
    TorchvisionSet(  # Cimpoi et al., 2014: the first of its ten partitions
        name="DTD",
        reader="DTD",
        train={"split": "train"},
        test={"split": "test"},
        classes=47,
        counts=(1_880, 1_880),
        present=("dtd/dtd",),
        archives=(
            _published(
                "dtd",
                "fff73e5086ae6bdbea199a49dfb8a4c1",
                f"{_OXFORD}dtd/download/dtd-r1.0.1.tar.gz",
            ),
        ),
        pictures="_image_files",
        augmentation="resized_crop_flip",
    ),
    _emnist("EMNIST", "balanced", 47, (112_800, 18_800)),
    _emnist("EMNIST-byclass", "byclass", 62, (697_932, 116_323)),
    _emnist("EMNIST-bymerge", "bymerge", 47, (697_932, 116_323)),
    _emnist("EMNIST-digits", "digits", 10, (240_000, 40_000)),
    # The paper's letters are fewer than those in NIST's files.
    _emnist("EMNIST-letters", "letters", 26, None),
    _emnist("EMNIST-mnist", "mnist", 10, (60_000, 10_000)),
    TorchvisionSet(  # Goodfellow et al., 2013: public and private test pictures together
        name="FER2013",
        reader="FER2013",
        train={"split": "train"},
        test={"split": "test"},
        classes=7,
        counts=(28_709, 7_178),
        present=("fer2013",),
        by_hand="put fer2013.csv or icml_face_data.csv there, from Kaggle's challenge "
        "challenges-in-representation-learning-facial-expression-recognition-challenge",
        augmentation="crop_flip",
    ),
    _aircraft("FGVCAircraft", "variant", 100),
    _aircraft("FGVCAircraft-family", "family", 70),
    _aircraft("FGVCAircraft-manufacturer", "manufacturer", 30),
    TorchvisionSet(  # Nilsback & Zisserman, 2008
        name="Flowers102",
        reader="Flowers102",
        train={"split": "train"},
        test={"split": "test"},
        classes=102,
        counts=(1_020, 6_149),
        present=("flowers-102/jpg",),
        archives=(
            _published(
                "flowers-102",
                "52808999861908f626f3c1f4e79d11fa",
                f"{_OXFORD}flowers/102/102flowers.tgz",
            ),
        ),
        files=(
            _published(
                "flowers-102",
                "e0620be6f572b9609742df49c70aed4d",
                f"{_OXFORD}flowers/102/imagelabels.mat",
            ),
            _published(
                "flowers-102",
                "a5357ecc9cb78c4bef273ce3793fc85c",
                f"{_OXFORD}flowers/102/setid.mat",
            ),
        ),
        pictures="_image_files",
        needs="scipy",
        augmentation="resized_crop_flip",
    ),
    TorchvisionSet(  # Bossard et al., 2014
        name="Food101",
        reader="Food101",
        train={"split": "train"},
        test={"split": "test"},
        classes=101,
        counts=(75_750, 25_250),
        present=("food-101",),
        archives=(
            _published(
                "",
                "85eeb15f3717b99a5da872d97d918f87",
                "http://data.vision.ee.ethz.ch/cvl/food-101.tar.gz",
            ),
        ),
        pictures="_image_files",
        augmentation="resized_crop_flip",
    ),
    TorchvisionSet(  # Stallkamp et al., 2012: mirrored, some signs mean another thing
        name="GTSRB",
        reader="GTSRB",
        train={"split": "train"},
        test={"split": "test"},
        classes=43,
        counts=(26_640, 12_630),
        present=(
            "gtsrb/GTSRB/Training",
            "gtsrb/GTSRB/Final_Test/Images",
            "gtsrb/GT-final_test.csv",
        ),
        labels="_samples",
        archives=(
            _published(
                "gtsrb",
                "513f3c79a4c5141765e10e952eaa2478",
                f"{_ERDA}GTSRB-Training_fixed.zip",
            ),
            _published(
                "gtsrb",
                "c7e4e6327067d32654124b0fe9e82185",
                f"{_ERDA}GTSRB_Final_Test_Images.zip",
            ),
            _published(
                "gtsrb",
                "fe31e9c9270bbcd7b84b7f21a9d9d9e5",
                f"{_ERDA}GTSRB_Final_Test_GT.zip",
            ),
        ),
        pictures="_samples",
    ),
    # Russakovsky et al., 2015, by ImageFolder: the class ImageNet unpickles a cache of its own.
    TorchvisionSet(
        name="ImageNet",
        reader="ImageFolder",
        train={"root": "ImageNet/train"},
        test={"root": "ImageNet/val"},
        classes=1_000,
        counts=(1_281_167, 50_000),
        present=("ImageNet/train", "ImageNet/val"),
        by_hand="put the pictures there, one folder a class, named by its WordNet number: "
        "train/n01440764/*.JPEG",
        pictures="samples",
        augmentation="resized_crop_flip",
    ),
    _imagenette("Imagenette", "full", "imagenette2", "fe2fc210e6bb7c5664d602c3cd71e612"),
    _imagenette("Imagenette-320px", "320px", "imagenette2-320", "3df6f0d01a2c9592104656642f5e78a3"),
    _imagenette("Imagenette-160px", "160px", "imagenette2-160", "e793b78cc4c9e9a4ccc0c1155377a412"),
    _inaturalist(
        "INaturalist",
        "2021_train",
        "train.tar.gz",
        "e0526d53c7f7b2e3167b2b43bb2690ed",
        2_686_843,
    ),
    _inaturalist(
        "INaturalist-mini",
        "2021_train_mini",
        "train_mini.tar.gz",
        "db6ed8330e634445efc8fec83ae81442",
        500_000,
    ),
    TorchvisionSet(  # Parkhi et al., 2012
        name="OxfordIIITPet",
        reader="OxfordIIITPet",
        train={"split": "trainval"},
        test={"split": "test"},
        classes=37,
        counts=(3_680, 3_669),
        present=("oxford-iiit-pet/images", "oxford-iiit-pet/annotations"),
        archives=(
            _published(
                "oxford-iiit-pet",
                "5c4f3ee8e5d25df40f4fd59a7f44e54c",
                f"{_OXFORD}pets/data/images.tar.gz",
            ),
            _published(
                "oxford-iiit-pet",
                "95a8c909bbe2e81eed6a22bccdf3f68f",
                f"{_OXFORD}pets/data/annotations.tar.gz",
            ),
        ),
        pictures="_images",
        labels="_labels",
        augmentation="resized_crop_flip",
    ),
    TorchvisionSet(  # Veeling et al., 2018
        name="PCAM",
        reader="PCAM",
        train={"split": "train"},
        test={"split": "test"},
        classes=2,
        counts=(262_144, 32_768),
        present=tuple(
            f"pcam/camelyonpatch_level_2_split_{part}_{content}.h5"
            for part in ("train", "test")
            for content in ("x", "y")
        ),
        by_hand="unpack the .h5.gz file from https://github.com/basveeling/pcam there",
        needs="h5py",
        augmentation="crop_flip",
    ),
    _places(
        "Places365",
        "large",
        ("67e186b496a84c929568076ed01a8aa1", "9b71c4993ad89d2d8bcbdc4aef38042f"),
    ),
    _places(
        "Places365-small",
        "256",
        ("53ca1c756c3d1e7809517cc47c5561c5", "e27b17d8d44f4af9a78502beb927f808"),
    ),
    TorchvisionSet(  # Yadav & Bottou, 2019
        name="QMNIST",
        reader="QMNIST",
        train={"what": "train"},
        test={"what": "test"},
        classes=10,
        counts=(60_000, 60_000),
        present=tuple(
            f"QMNIST/raw/qmnist-{part}-{content}"
            for part in ("train", "test")
            for content in ("images-idx3-ubyte", "labels-idx2-int")
        ),
        archives=tuple(
            _published("QMNIST/raw", md5, f"{_QMNIST}qmnist-{name}.gz")
            for name, md5 in (
                ("train-images-idx3-ubyte", "ed72d4157d28c017586c42bc6afe6370"),
                ("train-labels-idx2-int", "0058f8dd561b90ffdd0f734c6a30e5e4"),
                ("test-images-idx3-ubyte", "1394631089c404de565df7b7aeaf9412"),
                ("test-labels-idx2-int", "5b5b05890a5e13444e108efe57b788aa"),
            )
        ),
        unverified="QMNIST/processed",
    ),
    TorchvisionSet(  # Radford et al., 2021
        name="RenderedSST2",
        reader="RenderedSST2",
        train={"split": "train"},
        test={"split": "test"},
        classes=2,
        counts=(6_920, 1_821),
        present=("rendered-sst2",),
        archives=(
            _published("", "2384d08e9dcfa4bd55b324e610496ee5", f"{_OPENAI}rendered-sst2.tgz"),
        ),
        pictures="_samples",
    ),
    TorchvisionSet(  # Krause et al., 2013; its site is gone, and no checksums are published
        name="StanfordCars",
        reader="StanfordCars",
        train={"split": "train"},
        test={"split": "test"},
        classes=196,
        counts=(8_144, 8_041),
        present=tuple(
            f"stanford_cars/{place}"
            for place in (
                "cars_train",
                "cars_test",
                "devkit/cars_train_annos.mat",
                "devkit/cars_meta.mat",
                "cars_test_annos_withlabels.mat",
            )
        ),
        by_hand="its site is gone: put it there from a copy",
        pictures="_samples",
        needs="scipy",
        augmentation="resized_crop_flip",
    ),
    TorchvisionSet(  # Hull, 1994
        name="USPS",
        reader="USPS",
        train={"root": "USPS", "train": True},
        test={"root": "USPS", "train": False},
        classes=10,
        counts=(7_291, 2_007),
        files=(
            _published("USPS", "ec16c51db3855ca6c91edd34d0e9b197", f"{_LIBSVM}usps.bz2"),
            _published("USPS", "8ea070ee2aca1ac39742fdd1ef5ed118", f"{_LIBSVM}usps.t.bz2"),
        ),
    ),
)
SETS: Mapping[str, TorchvisionSet] = {known.name: known for known in _SETS}
"""Every set that is read by torchvision's own class, by its name in the registry."""
