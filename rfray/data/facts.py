"""What is known about published data sets before a file is read: `facts.yaml`, as objects.

A plan imports this file, so it does not import torchvision but names its classes.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from rfray.data.dataset import AugmentationName, DatasetFacts
from rfray.data.published import PublishedArchive, PublishedFile

_KNOWN: Mapping[str, Any] = yaml.load(
    Path(__file__).with_name("facts.yaml").read_text(encoding="utf-8"),
    Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader),  # noqa: S506 (both are safe, C's faster)
)


def _published(place: str, md5: str, *addresses: str) -> PublishedFile:
    name = place.rpartition("/")[2]
    urls = tuple(a + name if a.endswith("/") else a for a in addresses)
    unpacked = _KNOWN["files"].get(place.removesuffix(".gz"), [""])
    return PublishedFile(place, md5, urls, contents_md5=unpacked[0])


FILES: Mapping[str, PublishedFile] = {
    place: _published(place, *known) for place, known in _KNOWN["files"].items()
}
"""Every published file, by its path in the data folder."""


def archive(name: str, folder: str) -> PublishedArchive:
    """An archive, with all known files of the folder that it is extracted to."""
    members = (file for place, file in FILES.items() if place.startswith(f"{folder}/"))
    return PublishedArchive(FILES[name], tuple(members))


def _with_tuples(known: Mapping[str, Any]) -> dict[str, Any]:
    return {k: tuple(value) if isinstance(value, list) else value for k, value in known.items()}


FACTS: Mapping[str, DatasetFacts] = {
    name: DatasetFacts(**{"name": name, "fingerprint": f"{name}-v1", **_with_tuples(known)})
    for name, known in _KNOWN["facts"].items()
}
"""Data sets of a fixed size."""


@dataclass(frozen=True, eq=False)
class TorchvisionSet:
    """A classification set with a training and a test split, read by a class of torchvision.

    All paths are below the data folder, parts separated by `/`.

    Attributes:
        name: Name in the registry: that of the class, with the variant after a hyphen if it is not
            the usual one.
        reader: The class in `torchvision.datasets`.
        counts: Number of training and test pictures; None if publications disagree.
        train: Arguments of the class for the training split; `root`, its folder, is the data folder
            itself if not given.
        test: The same for the test split.
        present: Files and folders that exist once its archives are extracted.
        archives: The archives that torchvision extracts, at the paths where it looks for them.
        files: Files that are read without extraction.
        by_hand: Where to get the pictures if they cannot be downloaded.
        first_label: The label of the first class.
        pictures: The reader's attribute that lists each picture's file; empty if the pictures are
            not files.
        labels: The reader's attribute that lists each picture's label, which may be the same list,
            if the reader opens files in its own way; empty if it takes a loader.
        unordered: Whether that list is in the order of the file system and must be sorted.
        unverified: Caches that the reader would unpickle, and that have no published checksum.
        needs: A package that the reader imports and rfray does not require.
        augmentation: How its training images are usually augmented.
    """

    name: str
    reader: str
    classes: int
    counts: tuple[int, int] | None
    train: Mapping[str, Any] = field(default_factory=lambda: {"split": "train"})
    test: Mapping[str, Any] = field(default_factory=lambda: {"split": "test"})
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


def _torchvision_set(name: str, known: Mapping[str, Any]) -> TorchvisionSet:
    files = {
        kind: tuple(FILES[place] for place in known.get(kind, ())) for kind in ("archives", "files")
    }
    split = known.get("train", {}).get("split")
    present = tuple(place.format(split=split) for place in known.get("present", ()))
    named = {"name": name, "reader": name.partition("-")[0]}
    return TorchvisionSet(**{**named, **_with_tuples(known), **files, "present": present})


SETS: Mapping[str, TorchvisionSet] = {
    name: _torchvision_set(name, known) for name, known in _KNOWN["torchvision"].items()
}
"""Every set that is read by torchvision's own class, by its name in the registry."""

REFUSED: Mapping[str, str] = {
    name: known["why"] for known in _KNOWN["refused"] for name in known["names"]
}
"""torchvision's other data sets, each with the reason why rfray cannot train on it."""
