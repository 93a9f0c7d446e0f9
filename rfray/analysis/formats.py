"""Tables as text: long-form csv and Markdown."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import groupby

import pandas as pd

from rfray.analysis.published import PublishedValue
from rfray.analysis.slots import Identity, without
from rfray.analysis.tables import Entry, Table
from rfray.analysis.values import show

_LEADING = ("arch", "dataset", "kernel_size", "receptive_field")
_NOTHING = "—"


def long_form(table: Table) -> pd.DataFrame:
    """A table in long form, one row a number.

    Columns: `arch dataset kernel_size receptive_field`, the study's further axes, `metric mean std
    n n_planned ci_low ci_high`, `<source>_mean <source>_std` for each source, `note`.
    """
    others = [axis for axis in table.axes if axis not in _LEADING]
    columns = [*_LEADING, *others, "metric", "mean", "std", "n", "n_planned", "ci_low", "ci_high"]
    for source in table.sources:
        columns += [f"{source}_mean", f"{source}_std"]
    columns.append("note")
    frame = pd.DataFrame([_long_row(entry) for entry in table.entries], columns=columns)
    return frame.astype({"kernel_size": "Int64", "receptive_field": "Int64"})


def csv_text(table: Table) -> str:
    """A table in long form as csv; what is not known is blank."""
    return long_form(table).to_csv(index=False, lineterminator="\n")


def markdown_text(table: Table) -> str:
    """A table for a reader: blocks of one line a receptive field, and every flaw below."""
    parts = [f"**{table.spec.title}**"]
    for block, entries in groupby(table.entries, key=lambda entry: _block(entry.identity)):
        parts += [_heading(block), _block_table(table, list(entries))]
    flaws = [
        f"- {table.names.cell(entry.identity)}: {flaw}"
        for entry in table.entries
        for flaw in entry.flaws
    ]
    parts.append("\n".join(dict.fromkeys(flaws)))
    return "\n\n".join(part for part in parts if part) + "\n"


def number(value: float, spec: str) -> str:
    """A number in a column's format, a dash where there is none."""
    return _NOTHING if math.isnan(value) else format(value, spec)


def cell_text(entry: Entry) -> str:
    """`mean ± std (n)`, with `n of planned` where values are missing, a dash for no value."""
    summary, spec = entry.summary, entry.column.format
    whole = summary.n == entry.n_planned
    count = f"({summary.n})" if whole else f"({summary.n} of {entry.n_planned})"
    return f"{_plus_minus(summary.mean, summary.std, spec)} {count}"


def _plus_minus(mean: float, std: float, spec: str) -> str:
    if math.isnan(mean) or math.isnan(std):
        return number(mean, spec)
    return f"{number(mean, spec)} ± {number(std, spec)}"


def _long_row(entry: Entry) -> dict[str, object]:
    row: dict[str, object] = dict(entry.identity)
    row |= {
        "receptive_field": entry.receptive_field,
        "metric": entry.column.name,
        "mean": entry.summary.mean,
        "std": entry.summary.std,
        "n": entry.summary.n,
        "n_planned": entry.n_planned,
        "ci_low": entry.summary.ci_low,
        "ci_high": entry.summary.ci_high,
        "note": entry.note,
    }
    for source, value in entry.published.items():
        row |= {f"{source}_mean": value.mean, f"{source}_std": value.std}
    return row


def _block(identity: Identity) -> Identity:
    return without(identity, "kernel_size")


def _heading(block: Identity) -> str:
    values = dict(block)
    words = [str(values[axis]) for axis in ("arch", "dataset") if axis in values]
    words += [f"{axis} {show(v)}" for axis, v in block if axis not in ("arch", "dataset")]
    return ", ".join(words)


def _block_table(table: Table, entries: Sequence[Entry]) -> str:
    shown = [
        (column.name, column.title, [s for s in table.sources if _has(entries, column.name, s)])
        for column in table.spec.columns
    ]
    header = ["RF", "k"]
    for _, title, sources in shown:
        header += [title, *(f"{title}, {source}" for source in sources)]
    lines = [header, ["--:"] * len(header)]
    for _, cell in groupby(entries, key=lambda entry: entry.identity):
        by_column = {entry.column.name: entry for entry in cell}
        first = next(iter(by_column.values()))
        field = first.receptive_field
        line = [_NOTHING if field is None else str(field)]
        line.append(str(dict(first.identity).get("kernel_size", _NOTHING)))
        for name, _, sources in shown:
            entry = by_column[name]
            line.append(cell_text(entry))
            line += [_published(entry.published.get(s), entry.column.format) for s in sources]
        lines.append(line)
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _has(entries: Iterable[Entry], column: str, source: str) -> bool:
    return any(source in entry.published for entry in entries if entry.column.name == column)


def _published(value: PublishedValue | None, spec: str) -> str:
    return _NOTHING if value is None else _plus_minus(value.mean, value.std, spec)
