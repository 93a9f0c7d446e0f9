"""Reads the artifacts of stages into arrays and checks them against the public schema."""

import csv
import json
import math
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


class ArtifactError(ValueError):
    """An artifact is missing, or it is not what the public schema says."""


@dataclass(frozen=True)
class Density:
    """Spectral density P(λ) of a Hessian at ascending λ, (G,) each, from `density.csv`."""

    eigenvalues: Floats
    density: Floats


@dataclass(frozen=True)
class Spectrum:
    """Largest eigenvalues of a Hessian, the largest first, (E,) each, from `spectrum.csv`."""

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
        shuffled: CKA of equal layers with the images of the second seed shuffled, (P, L); None if
            the run is older than this baseline.
    """

    layers: tuple[str, ...]
    pairs: NDArray[np.int64]
    matrices: Floats
    shuffled: Floats | None = None


@dataclass(frozen=True)
class EffectiveFields:
    """Effective receptive fields of some layers of one network, from `erf.npz`.

    Attributes:
        layers: Names of the L layers in forward order.
        places: Index of each among the network's convolutional and linear layers, (L,).
        maps: Mean |gradient|² of each pixel, (L, H, W).
        rows: First image row in the theoretical receptive field, and first row after it, (L, 2).
        columns: The same for columns, (L, 2).
        radius: Root of the second moment of each map, pixels, (L,); NaN where there is no gradient.
    """

    layers: tuple[str, ...]
    places: NDArray[np.int64]
    maps: Floats
    rows: NDArray[np.int64]
    columns: NDArray[np.int64]
    radius: Floats


@dataclass(frozen=True)
class ByLayer:
    """One number for each layer of one network, from `probe.csv` or `saturation.csv`.

    Attributes:
        layers: Names of the L layers, first to last.
        values: The number of each, (L,).
        starts: For each column of truth values, the index of the first layer where it is true; L if
            there is none.
    """

    layers: tuple[str, ...]
    values: Floats
    starts: dict[str, int]


@dataclass(frozen=True)
class Samples:
    """The samples of a search, from `samples.csv`.

    Attributes:
        settings: The values that the S samples tried, by the setting's dotted name.
        accuracy: Validation accuracy in percent, (S,); NaN where a sample diverged.
        stopped: Whether each was stopped early, (S,).
    """

    settings: dict[str, list[object]]
    accuracy: Floats
    stopped: NDArray[np.bool_]


@dataclass(frozen=True)
class Paths:
    """Loss and accuracy on the lines between P pairs of networks, from `barrier.csv`.

    Attributes:
        alphas: The N positions on a line, from 0 to 1, (N,).
        loss: Test loss, (P, N); NaN where it is not finite.
        accuracy: Test accuracy in percent, (P, N).
    """

    alphas: Floats
    loss: Floats
    accuracy: Floats


def read_paths(path: Path) -> Paths:
    """Reads `barrier.csv`; ArtifactError if it is not such a file."""
    names = ("first", "second", "point", "alpha", "test_loss", "test_accuracy")
    columns = _columns(path, names)
    with _readable(path):
        # The field of a loss that is not finite is empty.
        values = {
            name: np.array([text or "nan" for text in columns[name]], dtype=np.float64)
            for name in names
        }
    points = int(values["point"].max()) + 1
    if (
        len(values["point"]) % points
        or (values["point"].reshape(-1, points) != range(points)).any()
    ):
        raise ArtifactError(f"{path.name} does not hold whole lines of {points} points")
    shaped = {name: column.reshape(-1, points) for name, column in values.items()}
    finite = np.where(np.isfinite(shaped["test_loss"]), shaped["test_loss"], np.nan)
    return Paths(shaped["alpha"][0], finite, shaped["test_accuracy"])


def read_samples(path: Path) -> Samples:
    """Reads `samples.csv`; ArtifactError if it is not such a file."""
    measured = ("validation_accuracy", "stopped_epoch", "diverged_epoch")
    columns = _columns(path, measured)
    names = [name for name in columns if "." in name]
    accuracy = [
        math.nan if diverged or not text else float(text)
        for text, diverged in zip(columns[measured[0]], columns[measured[2]], strict=True)
    ]
    with _readable(path):
        settings = {name: [json.loads(text) for text in columns[name]] for name in names}
    stopped = np.array([bool(text) for text in columns[measured[1]]], dtype=np.bool_)
    return Samples(settings, np.array(accuracy, dtype=np.float64), stopped)


def read_density(path: Path) -> Density:
    """Reads `density.csv`; ArtifactError if it is not such a file."""
    columns = _columns(path, ("eigenvalue", "density"))
    eigenvalues, density = _floats(path, columns["eigenvalue"]), _floats(path, columns["density"])
    order = np.argsort(eigenvalues, kind="stable")
    return Density(eigenvalues[order], density[order])


def read_spectrum(path: Path) -> Spectrum:
    """Reads `spectrum.csv`; ArtifactError if it is not such a file."""
    columns = _columns(path, ("rank", "eigenvalue", "converged"))
    return Spectrum(
        ranks=_floats(path, columns["rank"]).astype(np.int64),
        eigenvalues=_floats(path, columns["eigenvalue"]),
        converged=np.array(
            [_truth(path, "converged", text) for text in columns["converged"]], dtype=np.bool_
        ),
    )


def read_alignment(path: Path) -> Alignment:
    """Reads `cka.npz`; ArtifactError if it is not such a file."""
    arrays = _arrays(path, ("layers", "pairs", "matrices"))
    with _readable(path):
        layers = tuple(map(str, arrays["layers"]))
        pairs, matrices = arrays["pairs"].astype(np.int64), arrays["matrices"].astype(np.float64)
        shuffled = arrays["shuffled"].astype(np.float64) if "shuffled" in arrays else None
    count = len(layers)
    if count == 0 or len(pairs) == 0:
        raise ArtifactError(f"{path.name} holds no pair of networks")
    wanted = f"{len(pairs)} pairs of {count} layers"
    if matrices.shape != (len(pairs), count, count):
        raise ArtifactError(f"{path.name} holds matrices {matrices.shape}, not {wanted}")
    if shuffled is not None and shuffled.shape != (len(pairs), count):
        raise ArtifactError(f"{path.name} holds a baseline {shuffled.shape}, not {wanted}")
    return Alignment(layers, pairs, matrices, shuffled)


def read_effective_fields(path: Path) -> EffectiveFields:
    """Reads `erf.npz`; ArtifactError if it is not such a file."""
    arrays = _arrays(path, ("layers", "steps", "maps", "rows", "columns", "erf_radius"))
    with _readable(path):
        fields = EffectiveFields(
            layers=tuple(map(str, arrays["layers"])),
            places=arrays["steps"].astype(np.int64),
            maps=arrays["maps"].astype(np.float64),
            rows=arrays["rows"].astype(np.int64),
            columns=arrays["columns"].astype(np.int64),
            radius=arrays["erf_radius"].astype(np.float64),
        )
    count = len(fields.layers)
    if count == 0 or fields.maps.ndim != 3:
        raise ArtifactError(f"{path.name} holds no maps of layers")
    wanted = {"steps": (count,), "rows": (count, 2), "columns": (count, 2), "erf_radius": (count,)}
    for name, shape in wanted.items():
        if arrays[name].shape != shape or len(fields.maps) != count:
            raise ArtifactError(f"{path.name} holds {name} {arrays[name].shape} for {count} layers")
    return fields


def read_probe(path: Path) -> ByLayer:
    """Reads `probe.csv`; ArtifactError if it is not such a file."""
    return _by_layer(path, "accuracy", ("in_tail", "field_exceeds_image"))


def read_saturation(path: Path) -> ByLayer:
    """Reads `saturation.csv`; ArtifactError if it is not such a file."""
    return _by_layer(path, "saturation", ())


def _by_layer(path: Path, quantity: str, marks: tuple[str, ...]) -> ByLayer:
    columns = _columns(path, ("layer", quantity, *marks))
    truths = {name: [_truth(path, name, text) for text in columns[name]] for name in marks}
    starts = {name: (*those, True).index(True) for name, those in truths.items()}
    return ByLayer(tuple(columns["layer"]), _floats(path, columns[quantity]), starts)


def read_pattern(path: Path) -> Floats:
    """Reads `pattern.npy`, (H, W) means of |gradient|; ArtifactError if it is not such a file."""
    with _readable(path):
        pattern = np.asarray(np.load(path, allow_pickle=False), dtype=np.float64)
    if pattern.ndim != 2 or pattern.size == 0:
        raise ArtifactError(f"{path.name} has the shape {pattern.shape}, not H × W")
    if not np.isfinite(pattern).all() or (pattern < 0).any():
        raise ArtifactError(f"{path.name} holds values that cannot be a mean of |gradient|")
    return pattern


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Turns an error in reading a file into an ArtifactError that names the file."""
    try:
        yield
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, csv.Error) as error:
        raise ArtifactError(f"{path.name} cannot be read: {error}") from error


def _arrays(path: Path, needed: tuple[str, ...]) -> dict[str, NDArray[Any]]:
    """All arrays of an npz file by name; ArtifactError if a needed one is missing."""
    with _readable(path), np.load(path, allow_pickle=False) as arrays:
        return {name: arrays[name] for name in (*needed, *arrays)}


def _columns(path: Path, names: tuple[str, ...]) -> dict[str, list[str]]:
    """All columns of a csv file by name; ArtifactError if one lacks values, or one of `names`."""
    with _readable(path), path.open(encoding="utf-8", newline="") as stream:
        lines = list(csv.DictReader(stream))
    if not lines:
        raise ArtifactError(f"{path.name} holds no values")
    present = (name for name in lines[0] if name is not None)
    columns = {
        name: [line[name] for line in lines if line.get(name) is not None]
        for name in (*names, *present)
    }
    for name, values in columns.items():
        if len(values) < len(lines):
            raise ArtifactError(f"{path.name} lacks values in the column {name}")
    return columns


def _floats(path: Path, texts: list[str]) -> Floats:
    with _readable(path):
        values = np.array(texts, dtype=np.float64)
    if not np.isfinite(values).all():
        raise ArtifactError(f"{path.name} holds values that are not finite")
    return values


def _truth(path: Path, column: str, text: str) -> bool:
    truths = {"true": True, "1": True, "false": False, "0": False}
    if text.strip().lower() not in truths:
        raise ArtifactError(f"{path.name}: {column} is '{text}'")
    return truths[text.strip().lower()]
