"""Published values, and the rule that says which of a study's values they are compared with."""

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rfray.analysis.report_file import PublishedSpec, Quantity
from rfray.analysis.slots import Identity
from rfray.analysis.values import Scalar, same, typed
from rfray.errors import UserError, nearest

_FIXED = ("source", "stage", "rate", "at", "metric", "mean", "std", "n")


@dataclass(frozen=True)
class PublishedValue:
    """A published mean; its deviation is NaN and its number of values None if not published."""

    mean: float
    std: float
    n: int | None


@dataclass(frozen=True)
class Published:
    """Published values by source, cell and quantity.

    Attributes:
        sources: Names of the sources, such as `paper` and `author`, in the order of the file.
        axes: The axes that make published cells different.
        holds_for: Settings of every published value.
        values: By (source, cell, stage, parameter, metric).
    """

    sources: tuple[str, ...]
    axes: tuple[str, ...]
    holds_for: Mapping[str, Scalar]
    values: Mapping[tuple[str, frozenset[tuple[str, Scalar]], Quantity], PublishedValue]

    def beside(
        self, quantity: Quantity, cell: Identity, settings: Sequence[Mapping[str, str]]
    ) -> dict[str, PublishedValue]:
        """The published values of `quantity`, by source, that are comparable to a study's cell.

        A value is comparable if the cell agrees with it on every axis of published cells, and with
        `holds_for` on every other axis and on all that its runs record. If a study has an axis
        that the publication does not mention, nothing is comparable. `settings` are the params of
        the runs that were measured.
        """
        others = [(axis, value) for axis, value in cell if axis not in self.axes]
        if any(self.holds_for.get(axis) != value for axis, value in others):
            return {}
        for params in settings:
            if any(not same(k, params[k], v) for k, v in self.holds_for.items() if k in params):
                return {}
        key = frozenset((axis, value) for axis, value in cell if axis in self.axes)
        bare = quantity.with_metric(quantity.metric)  # a column has more fields
        found = ((source, self.values.get((source, key, bare))) for source in self.sources)
        return {source: value for source, value in found if value is not None}


def load_published(spec: PublishedSpec | None, folder: Path) -> Published:
    """Reads the published values of a report file in `folder`.

    Raises:
        UserError: If the file does not exist, lacks a column, or has a line that cannot be read.
    """
    if spec is None:
        return Published((), (), {}, {})
    path = folder / spec.file
    try:
        with path.open(encoding="utf-8", newline="") as stream:
            reader = csv.DictReader(stream)
            lines = list(reader)
            header = tuple(reader.fieldnames or ())
    except (OSError, UnicodeDecodeError) as error:
        raise UserError("the published values cannot be read", where=str(path)) from error
    for column in ("source", "stage", "metric", "mean"):
        if column not in header:
            raise UserError(f"no column '{column}'", where=str(path), do=nearest(column, header))
    axes = tuple(column for column in header if column not in _FIXED)
    values = {}
    for number, line in enumerate(lines, start=2):
        try:
            key, value = _value(line, axes)
        except (TypeError, ValueError) as error:
            what = "this line cannot be read as published values"
            raise UserError(what, where=f"{path}:{number}") from error
        if key in values:
            raise UserError("this value is published twice", where=f"{path}:{number}")
        values[key] = value
    holds_for = {name: typed(name, value) for name, value in spec.holds_for.items()}
    sources = tuple(dict.fromkeys(line["source"] for line in lines))
    return Published(sources, axes, holds_for, values)


def _value(
    line: Mapping[str, str], axes: Sequence[str]
) -> tuple[tuple[str, frozenset[tuple[str, Scalar]], Quantity], PublishedValue]:
    stated = {name: text for name in Quantity.model_fields if (text := line.get(name))}
    quantity = Quantity.model_validate(stated)
    cell = frozenset((axis, typed(axis, line[axis])) for axis in axes if line[axis])
    value = PublishedValue(
        mean=float(line["mean"]),
        std=float(line["std"]) if line.get("std") else math.nan,
        n=int(line["n"]) if line.get("n") else None,
    )
    return (line["source"], cell, quantity), value
