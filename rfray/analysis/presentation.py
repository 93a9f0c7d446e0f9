"""A table as blocks of lines of text, for any file format."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby

from rfray.analysis import schema
from rfray.analysis.block_trends import BlockTrend
from rfray.analysis.entries import Entry
from rfray.analysis.published import PublishedValue
from rfray.analysis.report_file import RECEPTIVE_FIELD
from rfray.analysis.slots import Identity
from rfray.analysis.statistics import FEWEST_FOR_INTERVAL, standard_errors_apart
from rfray.analysis.tables import Table
from rfray.analysis.trend import TREND_TEST, Slope
from rfray.analysis.values import show

NOTHING = "—"
"""Shown if there is no number."""

THIS_STUDY = "this study"
INTERVAL = "95 % interval"
SAMPLING_ERROR = "sampling error"
CHANCE = "†"
"""Marks a number at chance level."""


@dataclass(frozen=True)
class CellLines:
    """One cell of a study with its lines: its own numbers, their intervals, published numbers.

    Each of the `rows` is receptive field, kernel size, source of the numbers, then the text of each
    column. The cell's sizes are in the first row only.
    """

    receptive_field: str
    kernel_size: str
    rows: tuple[tuple[str, ...], ...]
    entries: tuple[Entry, ...]


@dataclass(frozen=True)
class Block:
    """The cells of a table that differ in the kernel size only, and their trend tests in words.

    Tests over cells of several blocks are not here but in `trends_across`.
    """

    heading: str
    cells: tuple[CellLines, ...]
    trends: tuple[str, ...]


def blocks(table: Table) -> list[Block]:
    """The blocks of a table."""
    return [
        Block(
            heading=_heading(identity),
            cells=tuple(
                _cell_lines(table.sources, tuple(cell))
                for _, cell in groupby(entries, key=lambda entry: entry.identity)
            ),
            trends=tuple(trend_text(trend) for trend in table.trends if trend.block == identity),
        )
        for identity, entries in groupby(table.entries, key=lambda entry: entry.block)
    ]


def size_heading(table: Table) -> str:
    """The heading of the column that says how far the receptive field is changed."""
    if schema.ASKED_FIELD in table.axes:
        return "asked for"
    return "strength" if "strength" in table.axes else "k"


def trends_across(table: Table) -> list[str]:
    """The trend tests of a table over cells of several blocks, in words."""
    own = {entry.block for entry in table.entries}
    return [
        ": ".join(part for part in (_heading(tested.block), trend_text(tested)) if part)
        for tested in table.trends
        if tested.block not in own
    ]


def remarks(table: Table) -> list[str]:
    """Remarks about several numbers of a table, each once: no interval, chance level."""
    said = []
    if any(1 < entry.summary.n < FEWEST_FOR_INTERVAL for entry in table.entries):
        said.append(f"no {INTERVAL} of fewer than {FEWEST_FOR_INTERVAL} values")
    images = sorted({entry.test_images for entry in table.entries if entry.test_images})
    if images:
        counts = " or ".join(f"{count:,}" for count in images)
        said.append(
            f"{SAMPLING_ERROR}: √(p (1 − p) / n) of a mean accuracy p on n = {counts} test images; "
            "all seeds share these images, so the deviation over seeds does not include this error"
        )
    if any(entry.at_chance for entry in table.entries):
        said.append(
            f"{CHANCE} at chance level: no accuracy is above 100 % / classes by more than the "
            "sampling error of the test images (one-sided, 95 %); a difference with such a side "
            "only repeats its other side"
        )
    precisions = frozenset[str]().union(*(entry.precisions for entry in table.entries))
    if len(precisions) > 1:
        said.append(
            f"this table has numbers of {' and '.join(sorted(precisions))}: precision auto is "
            "bfloat16 on a GPU and float32 on a processor"
        )
    return said


def flaws(table: Table) -> list[str]:
    """Every flaw of a table's numbers, each once."""
    said = (
        f"{table.names.cell(entry.identity)}: {flaw}"
        for entry in table.entries
        for flaw in entry.flaws
    )
    return list(dict.fromkeys(said))


def markdown_table(heads: Sequence[str], left: int, lines: Iterable[Sequence[str]]) -> str:
    """Lines as a Markdown table; column `left` is aligned left, the others right."""
    sides = ["--:"] * len(heads)
    sides[left] = ":--"
    return "\n".join(f"| {' | '.join(line)} |" for line in (heads, sides, *lines))


def number(value: float, spec: str) -> str:
    """A number in a column's format, with a minus sign in place of a hyphen; a dash for NaN."""
    if math.isnan(value):
        return NOTHING
    text = format(value, spec)
    return f"−{text[1:]}" if text.startswith("-") else text


def range_text(low: float, high: float, spec: str) -> str:
    """`low to high`, a dash for NaN."""
    return NOTHING if math.isnan(low) else f"{number(low, spec)} to {number(high, spec)}"


def cell_text(entry: Entry) -> str:
    """`mean ± std (n)`, with a dash for no value.

    `n of planned` if values are missing, and a † if they are at chance level.
    """
    summary = entry.summary
    whole = summary.n == entry.n_planned
    count = f"({summary.n})" if whole else f"({summary.n} of {entry.n_planned})"
    mark = f" {CHANCE}" if entry.at_chance else ""
    return f"{_plus_minus(summary.mean, summary.std, entry.column.format)} {count}{mark}"


def interval_text(entry: Entry) -> str:
    """`low to high`, a dash if there are too few values."""
    return range_text(entry.summary.ci_low, entry.summary.ci_high, entry.column.format)


def sampling_error_text(entry: Entry) -> str:
    """`± 0.27`, a dash if the number of test images is not known or does not matter."""
    if entry.test_images is None:
        return NOTHING
    return f"± {number(entry.sampling_error, entry.column.format)}"


def published_text(entry: Entry, source: str) -> str:
    """`mean ± std (+1.2 SE)`: a published value, and how far this study's mean is above it."""
    value = entry.published.get(source)
    if value is None:
        return NOTHING
    text = _plus_minus(value.mean, value.std, entry.column.format)
    apart = apart_from(entry, value)
    return text if math.isnan(apart) else f"{text} ({number(apart, '+.1f')} SE)"


def apart_from(entry: Entry, value: PublishedValue) -> float:
    """How far an entry's mean is above a published one, in standard errors; NaN if unknown."""
    return standard_errors_apart(entry.summary, value.mean, value.std, value.n)


def trend_text(tested: BlockTrend) -> str:
    """A trend test in a sentence."""
    trend = tested.trend
    over = "the receptive field" if trend.over == RECEPTIVE_FIELD else trend.over
    hypothesis = f"{tested.column.title} {trend.hypothesis} with {over}"
    if trend.reason:
        return f"{hypothesis}: not tested, {trend.reason}"
    numbers = f"τ = {number(trend.tau, '.2f')}, {trend.n} values; {slope_text(trend.slope)}"
    corrected = f"Holm-corrected for {tests_text(tested.n_tests)} {_p(tested.p_holm)}"
    p_values = f"{_p(trend.p_value)}, {corrected}"
    return f"{hypothesis}: {p_values} ({TREND_TEST}, one-sided; {numbers})"


def slope_text(slope: Slope) -> str:
    """`−1.2 [−1.6, −0.8] per doubling`: a Theil–Sen slope with its 95 % interval."""
    value, low, high = (number(end, ".2g") for end in (slope.value, slope.low, slope.high))
    interval = "" if math.isnan(slope.low) else f" [{low}, {high}]"
    return f"{value}{interval} per {slope.per}"


def probability_text(p_value: float) -> str:
    """`0.0123`; `< 0.0001` for less, because a p-value rounded to 0 would look like certainty."""
    if math.isnan(p_value):
        return NOTHING
    return "< 0.0001" if p_value < 1e-4 else f"{p_value:.4f}"


def tests_text(n_tests: int) -> str:
    """`1 test`, `12 tests`."""
    return f"{n_tests} test{'' if n_tests == 1 else 's'}"


def _p(p_value: float) -> str:
    text = probability_text(p_value)
    return f"p {text}" if text.startswith("<") else f"p = {text}"


def _cell_lines(sources: Sequence[str], entries: tuple[Entry, ...]) -> CellLines:
    texts: list[tuple[str, Callable[[Entry], str]]] = [(THIS_STUDY, cell_text)]
    if any(not math.isnan(entry.summary.ci_low) for entry in entries):
        texts.append((INTERVAL, interval_text))
    if any(entry.test_images for entry in entries):
        texts.append((SAMPLING_ERROR, sampling_error_text))
    texts += [
        (source, partial(published_text, source=source))
        for source in sources
        if any(source in entry.published for entry in entries)
    ]
    field = entries[0].receptive_field
    sizes = (NOTHING if field is None else str(field), _kernel_size(entries[0]))
    heads = [sizes, *([("", "")] * (len(texts) - 1))]
    rows = tuple(
        (*head, source, *map(text, entries))
        for head, (source, text) in zip(heads, texts, strict=True)
    )
    return CellLines(*sizes, rows, entries)


def _kernel_size(entry: Entry) -> str:
    """The kernel size, with the values that follow from it in brackets."""
    values = dict(entry.identity)
    axis = next((one for one in schema.TURNS if one in values), "kernel_size")
    size = str(values.pop(axis, NOTHING))
    own = [f"{axis} {show(v)}" for axis, v in values.items() if (axis, v) not in entry.block]
    own += [f"last map {entry.map_size}"] if entry.map_size is not None else []
    return f"{size} ({', '.join(own)})" if own else size


def _heading(block: Identity) -> str:
    values = dict(block)
    words = [str(values[axis]) for axis in ("arch", "dataset") if axis in values]
    words += [f"{axis} {show(v)}" for axis, v in block if axis not in ("arch", "dataset")]
    return ", ".join(words)


def _plus_minus(mean: float, std: float, spec: str) -> str:
    if math.isnan(mean) or math.isnan(std):
        return number(mean, spec)
    return f"{number(mean, spec)} ± {number(std, spec)}"
