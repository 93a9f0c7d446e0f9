"""What the stages leave as files, read into arrays and checked against the public schema."""

from __future__ import annotations

import csv
import json
import math
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


class ArtifactError(ValueError):
    """What a run left is not there, or not what the public schema says it is."""


@dataclass(frozen=True)
class Density:
    """Spectral density of a Hessian, from `density.csv`.

    Attributes:
        eigenvalues: λ, ascending, (G,).
        density: P(λ), (G,).
    """

    eigenvalues: Floats
    density: Floats


@dataclass(frozen=True)
class Spectrum:
    """Largest eigenvalues of a Hessian, from `spectrum.csv`.

    Attributes:
        ranks: Rank of each eigenvalue, the largest first, (E,).
        eigenvalues: Eigenvalues, (E,).
        converged: Whether each has converged, (E,).
    """

    ranks: NDArray[np.int64]
    eigenvalues: Floats
    converged: NDArray[np.bool_]


@dataclass(frozen=True)
class Alignment:
    """Alignment of the layers of pairs of networks, from `cka.npz`.

    Attributes:
        layers: Names of the L layers in forward order.
        pairs: The two seeds of each of the P pairs, (P, 2).
        matrices: CKA of layer i of the first seed with layer j of the second, (P, L, L); NaN where
            it is undefined.
        shuffled: CKA of equal layers with the images of the second seed shuffled, (P, L); None of
            a run that was made before there was such a baseline.
    """

    layers: tuple[str, ...]
    pairs: NDArray[np.int64]
    matrices: Floats
    shuffled: Floats | None = None


@dataclass(frozen=True)
class Samples:
    """The samples of a search, from `samples.csv`.

    Attributes:
        settings: What each of the S samples tried, by the setting's dotted name.
        accuracy: Validation accuracy in percent, (S,); NaN where a sample diverged.
        stopped: Whether each was stopped early, (S,).
    """

    settings: dict[str, list[object]]
    accuracy: Floats
    stopped: NDArray[np.bool_]


def read_samples(path: Path) -> Samples:
    """Reads `samples.csv`; ArtifactError if it is no such file."""
    with path.open(encoding="utf-8", newline="") as stream:
        names = [name for name in next(csv.reader(stream), []) if "." in name]
    measured = ("validation_accuracy", "stopped_epoch", "diverged_epoch")
    columns = _columns(path, (*names, *measured))
    accuracy = [
        math.nan if diverged or not text else float(text)
        for text, diverged in zip(columns[measured[0]], columns[measured[2]], strict=True)
    ]
    try:
        settings = {name: [json.loads(text) for text in columns[name]] for name in names}
    except json.JSONDecodeError as error:
        raise ArtifactError(f"{path.name}: {error}") from error
    stopped = np.array([bool(text) for text in columns[measured[1]]], dtype=np.bool_)
    return Samples(settings, np.array(accuracy, dtype=np.float64), stopped)


def read_density(path: Path) -> Density:
    """Reads `density.csv`; ArtifactError if it is no such file."""
    columns = _columns(path, ("eigenvalue", "density"))
    eigenvalues, density = _floats(path, columns["eigenvalue"]), _floats(path, columns["density"])
    order = np.argsort(eigenvalues, kind="stable")
    return Density(eigenvalues[order], density[order])


def read_spectrum(path: Path) -> Spectrum:
    """Reads `spectrum.csv`; ArtifactError if it is no such file."""
    columns = _columns(path, ("rank", "eigenvalue", "converged"))
    return Spectrum(
        ranks=_floats(path, columns["rank"]).astype(np.int64),
        eigenvalues=_floats(path, columns["eigenvalue"]),
        converged=np.array([_truth(path, text) for text in columns["converged"]], dtype=np.bool_),
    )


def read_alignment(path: Path) -> Alignment:
    """Reads `cka.npz`; ArtifactError if it is no such file."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            layers = tuple(str(name) for name in arrays["layers"])
            pairs = np.asarray(arrays["pairs"], dtype=np.int64)
            matrices = np.asarray(arrays["matrices"], dtype=np.float64)
            old = "shuffled" not in arrays
            shuffled = None if old else np.asarray(arrays["shuffled"], dtype=np.float64)
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise ArtifactError(f"{path.name} cannot be read: {error}") from error
    count = len(layers)
    if count == 0 or len(pairs) == 0:
        raise ArtifactError(f"{path.name} holds no pair of networks")
    if matrices.shape != (len(pairs), count, count):
        wanted = f"{len(pairs)} pairs of {count} layers"
        raise ArtifactError(f"{path.name} holds matrices {matrices.shape}, not {wanted}")
    if shuffled is not None and shuffled.shape != (len(pairs), count):
        wanted = f"{len(pairs)} pairs of {count} layers"
        raise ArtifactError(f"{path.name} holds a baseline {shuffled.shape}, not {wanted}")
    return Alignment(layers, pairs, matrices, shuffled)


def read_pattern(path: Path) -> Floats:
    """Reads `pattern.npy`, (H, W) means of |gradient|; ArtifactError if it is no such file."""
    try:
        pattern = np.asarray(np.load(path, allow_pickle=False), dtype=np.float64)
    except (OSError, ValueError, EOFError) as error:
        raise ArtifactError(f"{path.name} cannot be read: {error}") from error
    if pattern.ndim != 2 or pattern.size == 0:
        raise ArtifactError(f"{path.name} has the shape {pattern.shape}, not H × W")
    if not np.isfinite(pattern).all() or (pattern < 0).any():
        raise ArtifactError(f"{path.name} holds values that are no mean of |gradient|")
    return pattern


def _columns(path: Path, names: tuple[str, ...]) -> dict[str, list[str]]:
    try:
        with path.open(encoding="utf-8", newline="") as stream:
            lines = list(csv.DictReader(stream))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ArtifactError(f"{path.name} cannot be read: {error}") from error
    if not lines:
        raise ArtifactError(f"{path.name} holds no values")
    columns = {name: [line.get(name) for line in lines] for name in names}
    complete = {name: [v for v in values if v is not None] for name, values in columns.items()}
    for name, values in complete.items():
        if len(values) < len(lines):
            raise ArtifactError(f"{path.name} lacks values in the column {name}")
    return complete


def _floats(path: Path, texts: list[str]) -> Floats:
    try:
        values = np.array([float(text) for text in texts], dtype=np.float64)
    except ValueError as error:
        raise ArtifactError(f"{path.name}: {error}") from error
    if not np.isfinite(values).all():
        raise ArtifactError(f"{path.name} holds values that are not finite")
    return values


def _truth(path: Path, text: str) -> bool:
    truths = {"true": True, "1": True, "false": False, "0": False}
    if text.strip().lower() not in truths:
        raise ArtifactError(f"{path.name}: converged is '{text}'")
    return truths[text.strip().lower()]
