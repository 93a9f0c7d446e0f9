"""Tables: the report's layout, filled with a study's samples. Pure: no store, no files."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice

from rfray.analysis import schema
from rfray.analysis.block_trends import BlockTrend, block_trends, corrected
from rfray.analysis.entries import Entry
from rfray.analysis.expected import Gap
from rfray.analysis.frame import StudyFrame
from rfray.analysis.published import Published
from rfray.analysis.report_file import (
    Column,
    DifferenceColumn,
    MeasuredColumn,
    Quantity,
    ReportSpec,
    TableSpec,
)
from rfray.analysis.samples import (
    Measurements,
    Sample,
    difference,
    is_at_chance,
    measure,
    measure_seeds,
    precision_of,
)
from rfray.analysis.slots import CellNames, Identity, admits, only, without
from rfray.analysis.statistics import Bounds, summarize
from rfray.analysis.values import show


@dataclass(frozen=True)
class Table:
    """A filled table: its numbers, cell by cell and column by column.

    `sources` are all sources of published values, even if this table has none. `trends` has the
    test of each block, for each column with a hypothesis. `names` is the namer of its cells.
    """

    spec: TableSpec
    axes: tuple[str, ...]
    sources: tuple[str, ...]
    entries: tuple[Entry, ...]
    trends: tuple[BlockTrend, ...]
    gaps: tuple[Gap, ...]
    names: CellNames


@dataclass(frozen=True)
class NotInStudy:
    """A table or figure of the report for which the study has no runs, not even planned ones."""

    id: str
    reason: str


def build_tables(
    report: ReportSpec, study: Measurements, published: Published
) -> tuple[list[Table], list[NotInStudy]]:
    """Every table of the report for which the study has or plans runs, and the names of the others.

    Their trend tests are one family.
    """
    tables: list[Table] = []
    absent: list[NotInStudy] = []
    for spec in (_planned(spec, study) for spec in report.tables):
        reason = _not_in_study(spec, study)
        if reason is None:
            tables.append(build_table(spec, study, published))
        else:
            absent.append(NotInStudy(spec.id, reason))
    tests = iter(corrected([tested for table in tables for tested in table.trends]))
    whole = [replace(table, trends=tuple(islice(tests, len(table.trends)))) for table in tables]
    return whole, absent


def build_table(spec: TableSpec, study: Measurements, published: Published) -> Table:
    """One table: a row for each cell with planned or finished runs, a number for each column.

    Its trend tests are not yet corrected for their number.
    """
    entries: list[Entry] = []
    gaps: dict[Gap, None] = {}
    cells = _cells(spec, study)
    for identity in cells:
        samples = {name: measure(column, identity, study) for name, column in spec.measured.items()}
        for column in spec.columns:
            sample = _sample(column, samples, identity, study)
            gaps.update(dict.fromkeys(sample.gaps))
            entries.append(_entry(column, spec, identity, sample, study, published))
    axes = tuple(axis for axis in study.frame.axes if any(axis in dict(cell) for cell in cells))
    return Table(
        spec=spec,
        axes=axes,
        sources=published.sources,
        entries=tuple(entries),
        trends=tuple(block_trends(spec, entries, study.frame)),
        gaps=tuple(gaps),
        names=study.frame.names,
    )


def _sample(
    column: Column, samples: Mapping[str, Sample], identity: Identity, study: Measurements
) -> Sample:
    if isinstance(column, MeasuredColumn):
        return samples[column.name]
    first, second = column.minus
    logged = None if column.equals is None else measure_seeds(column.equals, identity, study)
    return difference(samples[first], samples[second], logged)


def _at_chance(column: Column, spec: TableSpec, identity: Identity, study: Measurements) -> bool:
    names = column.minus if isinstance(column, DifferenceColumn) else (column.name,)
    return any(is_at_chance(spec.measured[name], identity, study) for name in names)


def _bounds(column: Column, measured: Mapping[str, MeasuredColumn]) -> Bounds | None:
    """The bounds of a column's values; those of a difference follow from its two sides."""
    if isinstance(column, MeasuredColumn):
        return schema.BOUNDS.get(column.metric)
    first, second = (schema.BOUNDS.get(measured[name].metric) for name in column.minus)
    if first is None or second is None:
        return None
    return first[0] - second[1], first[1] - second[0]


def _entry(
    column: Column,
    spec: TableSpec,
    identity: Identity,
    sample: Sample,
    study: Measurements,
    published: Published,
) -> Entry:
    frame, flaws = study.frame, list(sample.notes)
    field = frame.receptive_fields(identity)
    if len(field) > 1:
        flaws.append(f"the runs record different receptive fields: {sorted(field)}")
    quantity = column.equals if isinstance(column, DifferenceColumn) else column
    cell = without(identity, schema.STUDY)  # published values are beside the cell of any study
    settings = [record.params for record in sample.records]
    summary = summarize(list(sample.values.values()), _bounds(column, spec.measured))
    # Two accuracies do not determine the error of their difference on the same images.
    accuracy = isinstance(column, MeasuredColumn) and column.metric == "test_accuracy"
    test = frame.document.test_images(identity) if accuracy and summary.n else None
    return Entry(
        identity=identity,
        block=without(frame.block(identity), spec.together or ""),
        receptive_field=next(iter(field)) if len(field) == 1 else None,
        column=column,
        summary=summary,
        n_planned=sample.n_planned,
        published=published.beside(quantity, cell, settings) if quantity else {},
        flaws=tuple(flaws),
        values=sample.values,
        runs={
            seed: tuple(record.run_id for record in records)
            for seed, records in sample.runs.items()
        },
        precisions=frozenset(filter(None, map(precision_of, sample.records))),
        at_chance=_at_chance(column, spec, identity, study),
        test_images=test.images if test else None,
        sampling_error=test.sampling_error(summary.mean) if test else math.nan,
        colour_of=frame.document.stand_in(identity),
        map_size=_map_size(settings),
    )


def _map_size(settings: Iterable[Mapping[str, str]]) -> int | None:
    sizes = {params["map_size"] for params in settings if "map_size" in params}
    return int(sizes.pop()) if len(sizes) == 1 else None


def _cells(spec: TableSpec, study: Measurements) -> list[Identity]:
    """The cells of a table in the study's order of values, kernel size last.

    A stage with its own axis has several cells where another stage has one. Its cells are the rows,
    and the number of the other stage is repeated in each of them.
    """
    wanted = {(column.stage, column.parameter) for column in spec.measured.values()}
    found = {
        identity
        for stage, parameter, identity in study.places
        if (stage, parameter) in wanted and admits(spec.where, identity)
    }
    ordered = sorted(_finest(found), key=study.frame.position)
    return ordered if spec.together is None else _side_by_side(ordered, spec.together, study.frame)


def _side_by_side(cells: Sequence[Identity], axis: str, frame: StudyFrame) -> list[Identity]:
    """Cells by block, then by size, then by their value of an axis in the study's order."""
    blocks = list(dict.fromkeys(without(frame.block(cell), axis) for cell in cells))
    return sorted(
        cells,
        key=lambda cell: (
            blocks.index(without(frame.block(cell), axis)),
            frame.document.stand_in(cell),
            cells.index(cell),
        ),
    )


def _finest(identities: Iterable[Identity]) -> list[Identity]:
    """The identities, without those that another one contains."""
    by_axes: dict[tuple[str, ...], list[Identity]] = {}
    for identity in identities:
        by_axes.setdefault(tuple(axis for axis, _ in identity), []).append(identity)
    covered = {
        only(identity, coarse)
        for coarse in by_axes
        for fine, those in by_axes.items()
        if set(coarse) < set(fine)
        for identity in those
    }
    return [identity for those in by_axes.values() for identity in those if identity not in covered]


def _planned(spec: TableSpec, study: Measurements) -> TableSpec:
    """The table without the optional columns for which the study plans no runs."""
    there = {(stage, parameter) for stage, parameter, _ in study.places}
    absent = {
        column.name
        for column in spec.measured.values()
        if column.optional and (column.stage, column.parameter) not in there
    }
    kept = tuple(
        column
        for column in spec.columns
        if column.name not in absent
        and not (isinstance(column, DifferenceColumn) and absent & set(column.minus))
    )
    return spec.model_copy(update={"columns": kept})


def _not_in_study(spec: TableSpec, study: Measurements) -> str | None:
    for column in spec.measured.values():
        own = (column.stage, column.parameter)
        there = [place[2] for place in study.places if place[:2] == own]
        if not there:
            return f"the study has no {Quantity.__str__(column)}"
        if not any(admits(spec.where, identity) for identity in there):
            wanted = [f"{axis} {' or '.join(map(show, v))}" for axis, v in spec.where.items()]
            return f"the study has no {', '.join(wanted)}"
    return None
