"""The trend tests of a report: which cells each one tests, and how many tests there are."""

import math
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rfray.analysis import report_file, schema
from rfray.analysis.entries import Entry
from rfray.analysis.frame import StudyFrame
from rfray.analysis.slots import Identity
from rfray.analysis.statistics import holm
from rfray.analysis.trend import Trend, trend_over
from rfray.analysis.values import Scalar, show
from rfray.errors import UserError, nearest
from rfray.parameters import is_number

AT_CHANCE = "every value, or a side of every difference, is at chance level"


@dataclass(frozen=True)
class BlockTrend:
    """A trend test over the cells of a table that differ in one axis only.

    Attributes:
        block: The axes and values that the cells share.
        data: What was tested: metric, hypothesis, values and runs. Two tests with equal data are
            the same test, in two tables, and count once.
        p_holm: The p-value, corrected by Holm for all tests of the report; NaN where nothing was
            tested.
        n_tests: Number of tests in the report.
    """

    block: Identity
    column: report_file.Column
    trend: Trend
    data: Hashable
    p_holm: float = math.nan
    n_tests: int = 0


def block_trends(
    spec: report_file.TableSpec, entries: Sequence[Entry], frame: StudyFrame
) -> Iterable[BlockTrend]:
    """The test of each block of a table, for each column with a hypothesis."""
    for block, column, cells in _blocks(spec, entries, frame):
        there = [entry for entry in cells if entry.values]
        levels = [_level(entry, column.trend_over) for entry in there]
        values = [tuple(entry.values.values()) for entry in there]
        trend = trend_over(
            column.trend_over,
            list(zip(levels, values, strict=True)),
            column.trend or "falls",
            AT_CHANCE if there and all(entry.at_chance for entry in there) else "",
        )
        runs = [tuple(entry.runs.values()) for entry in there]
        data = (
            _measured(column, spec),
            trend.hypothesis,
            trend.over,
            frozenset(zip(levels, values, runs, strict=True)),
        )
        yield BlockTrend(block, column, trend, data)


def corrected(tests: Sequence[BlockTrend]) -> list[BlockTrend]:
    """The tests of a report as one family, with their p-values corrected by Holm's procedure."""
    p_values = {tested.data: tested.trend.p_value for tested in tests if not tested.trend.reason}
    adjusted = dict(zip(p_values, holm(list(p_values.values())), strict=True))
    return [
        replace(tested, p_holm=adjusted.get(tested.data, math.nan), n_tests=len(adjusted))
        for tested in tests
    ]


def check_trends(
    report: report_file.ReportSpec, path: Path, axes: Mapping[str, Sequence[Scalar]]
) -> None:
    """Refuses a trend over an axis that does not vary, has no order, or cannot change the column.

    Raises:
        UserError: At the first such column.
    """
    for table in report.tables:
        for column in table.columns:
            if column.trend_over != report_file.RECEPTIVE_FIELD:
                place = f"{path}: table '{table.id}': column '{column.name}': trend_over"
                _refuse(column.trend_over, axes, place)
                _refuse_idle(column, table, place)


def _refuse(over: str, axes: Mapping[str, Sequence[Scalar]], place: str) -> None:
    if over == schema.SEED:
        what = "there is no trend over seeds: they have no order, and numbers are means over them"
        raise UserError(what, where=place)
    values = axes.get(over, ())
    owner, dot, _ = over.partition(".")
    if not values and not (over in schema.STANDARD_AXES or (dot and owner in schema.STAGES)):
        raise UserError(f"unknown axis '{over}'", where=place, do=nearest(over, axes))
    if len(values) < 2:
        raise UserError(f"'{over}' does not vary in this study", where=place)
    unordered = next((value for value in values if not is_number(value)), None)
    if unordered is not None:
        what = f"'{over}' has no order: {show(unordered)} is not a number"
        raise UserError(what, where=place)


def _refuse_idle(column: report_file.Column, table: report_file.TableSpec, place: str) -> None:
    """Refuses a trend over an axis that no stage of the column depends on."""
    measured = table.measured
    names = (column.name,) if isinstance(column, report_file.MeasuredColumn) else column.minus
    stages = [measured[name].stage for name in names]
    if not any(schema.applies(column.trend_over, stage) for stage in stages):
        raise UserError(f"{stages[0]} does not depend on '{column.trend_over}'", where=place)


def _blocks(
    spec: report_file.TableSpec, entries: Sequence[Entry], frame: StudyFrame
) -> Iterable[tuple[Identity, report_file.Column, Sequence[Entry]]]:
    """(block, column, entries of its cells) in the order in which the table shows them."""
    found: dict[tuple[Identity, str], list[Entry]] = {}
    for entry in entries:
        if entry.column.trend is not None:
            block = _block(entry, frame)
            found.setdefault((block, entry.column.name), []).append(entry)
    order = [column.name for column in spec.columns]
    blocks = list(dict.fromkeys(block for block, _ in found))
    for block, name in sorted(found, key=lambda key: (blocks.index(key[0]), order.index(key[1]))):
        cells = found[block, name]
        yield block, cells[0].column, cells


def _block(entry: Entry, frame: StudyFrame) -> Identity:
    over = entry.column.trend_over
    axis = frame.document.size_axis if over == report_file.RECEPTIVE_FIELD else over
    return frame.block_over(axis, entry.identity)


def _level(entry: Entry, over: str) -> float | None:
    if over == report_file.RECEPTIVE_FIELD:
        return entry.receptive_field
    value = dict(entry.identity).get(over)
    return value if is_number(value) else None


def _measured(column: report_file.Column, spec: report_file.TableSpec) -> Hashable:
    """What a column measures, independent of its name."""
    if isinstance(column, report_file.MeasuredColumn):
        return (column.stage, column.parameter, column.metric, column.over)
    return tuple(_measured(spec.measured[name], spec) for name in column.minus)
