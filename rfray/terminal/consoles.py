"""Consoles: a terminal, a file, a notebook. Tables that they show."""

import sys

from rich.console import Console
from rich.table import Column, Table

_WIDTH_OF_FILES = 120


def usual_console() -> Console:
    """A console for standard output."""
    return Console(width=None if sys.stdout.isatty() else _WIDTH_OF_FILES)


def plain_console() -> Console:
    """A console with lines only, because a live table would disturb a debugger's prompt."""
    return Console(force_terminal=False, force_jupyter=False)


def plain_table(*headings: str) -> Table:
    """A table without lines. Headings that begin with `>` are those of columns of numbers."""
    columns = (
        Column(name.removeprefix(">"), justify="right" if name.startswith(">") else "left")
        for name in headings
    )
    return Table(*columns, box=None, pad_edge=False)
