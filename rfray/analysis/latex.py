"""Tables as LaTeX for a paper; the only package that they need is booktabs."""

from __future__ import annotations

import re

from pylatexenc.latexencode import UnicodeToLatexEncoder

from rfray.analysis.presentation import (
    Block,
    blocks,
    flaws,
    remarks,
    size_heading,
    trends_across,
)
from rfray.analysis.tables import Table

_ENCODER = UnicodeToLatexEncoder(unknown_char_policy="replace", unknown_char_warning=False)
_EXPONENT = re.compile(r"(?<=\d)e([+-]?)0*(\d+)")
_OWN_NUMBER = re.compile(r"^Table \d+\. ")
"""A number in a title; LaTeX numbers tables itself."""

_HEADS = 3
"""Columns before the table's own: receptive field, kernel size, source."""


def latex_text(table: Table) -> str:
    r"""A floating table; its document needs `\usepackage{booktabs}` and nothing else."""
    size = size_heading(table)
    size = "$k$" if size == "k" else size
    titles = " & ".join(escaped(column.title) for column in table.spec.columns)
    body = [line for block in blocks(table) for line in ("\\midrule", *_block(block, table))]
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
            *_notes(table),
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


def _block(block: Block, table: Table) -> list[str]:
    width = len(table.spec.columns) + _HEADS
    lines = [f"\\multicolumn{{{width}}}{{l}}{{{escaped(block.heading)}}} \\\\"]
    for cell in block.cells:
        rows = (" & ".join(map(escaped, row)) for row in cell.rows)
        lines += ["\\addlinespace[2pt]", *(f"{row} \\\\" for row in rows)]
    return lines


def _notes(table: Table) -> list[str]:
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
