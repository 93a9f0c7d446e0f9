"""Data sets prepared once a node, and mapped into the memory of every worker that uses them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from filelock import FileLock
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from rfray.data.dataset import Dataset, DatasetSource, Split, checked, problem_with
from rfray.data.folders import FINDINGS, prepared_file
from rfray.data.overlap import count_overlap, overlap_findings
from rfray.terminal.telling import tell


def prepared(source: DatasetSource) -> Dataset:
    """A data set on the CPU, read from its source the first time, then from the prepared file.

    The file is written under a temporary name and renamed, by one process at a time, so that no
    other ever reads half of it. It is mapped, not read: its pages exist once a node, however many
    processes use them. A prepared file that is truncated or holds something else is made anew.

    Raises:
        UserError: The source's files are missing, damaged or not what its facts say.
    """
    path = prepared_path(source)
    dataset = _mapped(path, source)
    if dataset is None:
        path.parent.mkdir(parents=True, exist_ok=True)
        tell(f"preparing {source.facts.name}")  # or waiting for another process that does
        with FileLock(path.with_suffix(".lock")):
            dataset = _mapped(path, source)
            if dataset is None:
                _write(path, checked(source.load()))
                dataset = _mapped(path, source)
    if dataset is None:
        raise RuntimeError(f"{path} cannot be read although it was just written")
    return dataset


def prepared_path(source: DatasetSource) -> Path:
    """The prepared file of a data set on this machine, whether or not it is there."""
    return prepared_file(source.facts.fingerprint)


def _mapped(path: Path, source: DatasetSource) -> Dataset | None:
    """The data set in a prepared file; None if the file is missing, truncated or another's."""
    try:
        # On the CPU safetensors maps the file privately: what nobody writes to is shared.
        tensors = load_file(path)
        dataset = Dataset(
            source.facts,
            train=_split(tensors, "train"),
            test=_split(tensors, "test"),
        )
    except (FileNotFoundError, SafetensorError, KeyError):
        return None
    return None if problem_with(dataset) else dataset


def _split(tensors: Mapping[str, Tensor], name: str) -> Split:
    return Split(tensors[f"{name}_pixels"].permute(0, 3, 1, 2), tensors[f"{name}_labels"])


def _write(path: Path, dataset: Dataset) -> None:
    partial = path.with_suffix(".partial")
    tensors: dict[str, Tensor] = {}
    for name, split in (("train", dataset.train), ("test", dataset.test)):
        # Channels last, once and for all: what reads batches of them works in that layout.
        tensors[f"{name}_pixels"] = split.images.permute(0, 2, 3, 1).contiguous()
        tensors[f"{name}_labels"] = split.labels.contiguous()
    overlap = overlap_findings(count_overlap(dataset), len(dataset.test))
    findings = tuple(dict.fromkeys((*dataset.facts.findings, *overlap)))
    # One note alone: safetensors writes several in any order, and equal data should be equal bytes.
    save_file(tensors, partial, metadata={FINDINGS: json.dumps(findings)})
    partial.replace(path)
