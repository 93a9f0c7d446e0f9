"""Data sets prepared once a node, and mapped into the memory of every worker that uses them."""

from __future__ import annotations

import os
from pathlib import Path

from filelock import FileLock
from safetensors.torch import load_file, save_file

from rfray.data.dataset import Dataset, DatasetSource, Split

DATA_VARIABLE = "RFRAY_DATA"


def data_folder() -> Path:
    """RFRAY_DATA, else `~/.cache/rfray`: where prepared data sets lie on this machine."""
    return Path(os.environ.get(DATA_VARIABLE) or Path.home() / ".cache" / "rfray")


def prepared(source: DatasetSource) -> Dataset:
    """A data set on the CPU, read from its source the first time, then from the prepared file.

    The file is written under a temporary name and renamed, by one process at a time, so that no
    other ever reads half of it. Its pages are shared by all processes that map it.
    """
    path = data_folder() / "prepared" / f"{source.facts.fingerprint}.safetensors"
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_suffix(".lock")):
            if not path.is_file():
                _write(path, source.load())
    tensors = load_file(path)
    return Dataset(
        source.facts,
        train=Split(tensors["train_images"], tensors["train_labels"]),
        test=Split(tensors["test_images"], tensors["test_labels"]),
    )


def _write(path: Path, dataset: Dataset) -> None:
    partial = path.with_suffix(".partial")
    tensors = {
        "train_images": dataset.train.images,
        "train_labels": dataset.train.labels,
        "test_images": dataset.test.images,
        "test_labels": dataset.test.labels,
    }
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, partial)
    partial.replace(path)
