"""Data sets, prepared once on each machine and mapped into the memory of every worker."""

import json
from collections.abc import Mapping
from pathlib import Path

from filelock import FileLock
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from rfray.data.dataset import (
    Dataset,
    DatasetSource,
    Split,
    checked,
    overlap_findings,
    problem_with,
)
from rfray.data.folders import FINDINGS, prepared_file
from rfray.terminal.telling import tell


def prepared(source: DatasetSource) -> Dataset:
    """A data set on the CPU, read from its source the first time, then from the prepared file.

    The file is written under a temporary name and renamed, by one process at a time, so that no
    other process reads an incomplete file. It is mapped into memory: all processes of a machine
    share one copy. A prepared file that is truncated or has other contents is written again.

    Raises:
        UserError: The source's files are missing or damaged, or do not agree with its facts.
    """
    dataset = _mapped(prepared_path(source), source)
    if dataset is None:
        tell(f"preparing {source.facts.name}")  # or waiting for another process to do it
        prepare(source)
        dataset = _mapped(prepared_path(source), source)
    if dataset is None:
        raise RuntimeError(f"{prepared_path(source)} cannot be read although it was just written")
    return dataset


def prepare(source: DatasetSource) -> None:
    """Write the prepared file of a data set, unless another process has just written it.

    Raises:
        UserError: See `prepared`.
    """
    path = prepared_path(source)
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_suffix(".lock")):
        if _mapped(path, source) is None:
            _write(path, checked(source.load()))


def prepared_path(source: DatasetSource) -> Path:
    """The prepared file of a data set on this machine, which may not exist yet."""
    return prepared_file(source.facts.fingerprint)


def _mapped(path: Path, source: DatasetSource) -> Dataset | None:
    """The data set in a prepared file; None if the file is missing, truncated or of another set."""
    try:
        # On the CPU safetensors maps the file privately: pages that nobody writes are shared.
        tensors = load_file(path)
        dataset = Dataset(
            source.facts, train=_split(tensors, "train"), test=_split(tensors, "test")
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
        # Channels last: all code that reads batches works in this layout.
        tensors[f"{name}_pixels"] = split.images.permute(0, 2, 3, 1).contiguous()
        tensors[f"{name}_labels"] = split.labels.contiguous()
    findings = tuple(dict.fromkeys((*dataset.facts.findings, *overlap_findings(dataset))))
    # Only one entry: safetensors writes several in any order, and equal data should be equal bytes.
    save_file(tensors, partial, metadata={FINDINGS: json.dumps(findings)})
    partial.replace(path)
