"""Tables as text: long-form csv, Markdown, and LaTeX that needs the package booktabs only."""

import re

import pandas as pd
from pylatexenc.latexencode import UnicodeToLatexEncoder

from rfray.analysis.entries import Entry
from rfray.analysis.presentation import (
    Block,
    apart_from,
    blocks,
    flaws,
    markdown_table,
    remarks,
    size_heading,
    trends_across,
)
from rfray.analysis.report_file import RECEPTIVE_FIELD
from rfray.analysis.tables import Table
from rfray.analysis.trend import TREND_TEST
from rfray.analysis.values import show

_BLOCK = ("arch", "dataset")
_LEADING = ("arch", "dataset", "kernel_size", "receptive_field")

_ENCODER = UnicodeToLatexEncoder(unknown_char_policy="replace", unknown_char_warning=False)
_EXPONENT = re.compile(r"(?<=\d)e([+-]?)0*(\d+)")
_OWN_NUMBER = re.compile(r"^Table \d+\. ")
"""A number in a title; LaTeX numbers tables itself."""

_HEADS = 3
"""Columns before the table's own: receptive field, kernel size, source."""


def long_form(table: Table) -> pd.DataFrame:
    """A table in long form, one row for each number.

    Columns: `arch dataset kernel_size receptive_field metric mean std n ci_low ci_high`, then
    `<source>_mean <source>_std <source>_standard_errors` for each source of published values (the
    last is how far `mean` is above the published one), `n_planned`, the study's further axes,
    `note`, `at_chance`, and for test accuracies `sampling_error` (in percentage points) and
    `test_images`.
    """
    columns = [*_LEADING, "metric", "mean", "std", "n", "ci_low", "ci_high"]
    for source in table.sources:
        columns += [f"{source}_mean", f"{source}_std", f"{source}_standard_errors"]
    columns += ["n_planned", *(axis for axis in table.axes if axis not in _LEADING), "note"]
    columns += ["at_chance", "sampling_error", "test_images"]
    frame = pd.DataFrame([_long_row(entry) for entry in table.entries], columns=columns)
    return frame.astype(
        {"kernel_size": "Int64", "receptive_field": "Int64", "test_images": "Int64"}
    )


def trend_form(table: Table) -> pd.DataFrame:
    """The trend tests of a table, one row for each block and column.

    Columns: `table arch dataset`, the study's further axes, `metric hypothesis test tau p_value n
    receptive_fields note p_holm n_tests over levels kernel_size slope slope_low slope_high
    slope_per`. `receptive_fields` is blank if the test is over another axis, `kernel_size` if it
    is over several kernel sizes.
    """
    axes = dict.fromkeys((*_BLOCK, *(axis for axis in table.axes if axis != "kernel_size")))
    rows = [
        {
            "table": table.spec.id,
            **{axis: block.get(axis) for axis in axes},
            "metric": tested.column.name,
            "hypothesis": trend.hypothesis,
            "test": TREND_TEST,
            "tau": trend.tau,
            "p_value": trend.p_value,
            "n": trend.n,
            "receptive_fields": levels if trend.over == RECEPTIVE_FIELD else "",
            "note": trend.reason,
            "p_holm": tested.p_holm,
            "n_tests": tested.n_tests,
            "over": trend.over,
            "levels": levels,
            "kernel_size": block.get("kernel_size"),
            "slope": trend.slope.value,
            "slope_low": trend.slope.low,
            "slope_high": trend.slope.high,
            "slope_per": trend.slope.per,
        }
        for tested in table.trends
        for trend, block in [(tested.trend, dict(tested.block))]
        for levels in [" ".join(map(show, trend.levels))]
    ]
    return pd.DataFrame(rows)


def csv_text(frame: pd.DataFrame) -> str:
    """A frame as csv; unknown values are blank."""
    return frame.to_csv(index=False, lineterminator="\n")


def markdown_text(table: Table) -> str:
    """A table as Markdown: blocks of cells, their trend tests, and every flaw below."""
    parts = [f"**{table.spec.title}**"]
    for block in blocks(table):
        parts += [block.heading, _block_table(table, block)]
        parts.append("\n".join(f"- {trend}" for trend in block.trends))
    notes = [*trends_across(table), *remarks(table), *flaws(table)]
    parts.append("\n".join(f"- {note}" for note in notes))
    return "\n\n".join(part for part in parts if part) + "\n"


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
        "at_chance": entry.at_chance,
        "sampling_error": entry.sampling_error,
        "test_images": entry.test_images,
    }
    for source, value in entry.published.items():
        row |= {
            f"{source}_mean": value.mean,
            f"{source}_std": value.std,
            f"{source}_standard_errors": apart_from(entry, value),
        }
    return row


def _block_table(table: Table, block: Block) -> str:
    titles = [column.title for column in table.spec.columns]
    rows = [row for cell in block.cells for row in cell.rows]
    return markdown_table(["RF", size_heading(table), "", *titles], 2, rows)


def latex_text(table: Table) -> str:
    r"""A floating table; its document needs `\usepackage{booktabs}` and nothing else."""
    size = size_heading(table)
    size = "$k$" if size == "k" else size
    titles = " & ".join(escaped(column.title) for column in table.spec.columns)
    body = [line for block in blocks(table) for line in ("\\midrule", *_latex_block(block, table))]
    columns = f"rrl{'r' * len(table.spec.columns)}"
    return "\n".join(
        [
            "% \\usepackage{booktabs}",
            "\\begin{table}",
            "\\centering\\scriptsize\\setlength{\\tabcolsep}{2pt}",
            f"\\caption{{{escaped(_OWN_NUMBER.sub('', table.spec.title))}}}",
            f"\\label{{tab:{table.spec.id}}}",
            f"\\begin{{tabular}}{{{columns}}}",
            "\\toprule",
            f"RF & {size} & & {titles} \\\\",
            *body,
            "\\bottomrule",
            "\\end{tabular}",
            *_latex_notes(table),
            "\\end{table}",
            "",
        ]
    )


def escaped(text: str) -> str:
    """Text with LaTeX's special characters escaped; an unknown character becomes a bold `?`."""
    encoded: str = _ENCODER.unicode_to_latex(text)
    return _EXPONENT.sub(r"\\ensuremath{\\times10^{\1\2}}", encoded).replace("^{+", "^{")


def _breakable(text: str) -> str:
    """Escaped text, in which lines may break inside paths and names."""
    return escaped(text).replace("/", "/\\allowbreak{}").replace("\\_", "\\_\\allowbreak{}")


def _latex_block(block: Block, table: Table) -> list[str]:
    width = len(table.spec.columns) + _HEADS
    lines = [f"\\multicolumn{{{width}}}{{l}}{{{escaped(block.heading)}}} \\\\"]
    for cell in block.cells:
        rows = (" & ".join(map(escaped, row)) for row in cell.rows)
        lines += ["\\addlinespace[2pt]", *(f"{row} \\\\" for row in rows)]
    return lines


def _latex_notes(table: Table) -> list[str]:
    """Trend tests and flaws, below the table and as wide as it."""
    trends = [
        f"{block.heading}: {trend}." if block.heading else f"{trend}."
        for block in blocks(table)
        for trend in block.trends
    ]
    said = [f"{note}." for note in (*trends_across(table), *remarks(table), *flaws(table))]
    notes = [_breakable(note) for note in (*trends, *said)]
    if not notes:
        return []
    return ["\\par\\medskip\\raggedright\\scriptsize", " \\par\n".join(notes)]
