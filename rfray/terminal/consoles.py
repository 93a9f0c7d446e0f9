"""Consoles: a terminal, a file, a notebook."""

from __future__ import annotations

import sys

from rich.console import Console

_WIDTH_OF_FILES = 120


def usual_console() -> Console:
    """A console for standard output."""
    return Console(width=None if sys.stdout.isatty() else _WIDTH_OF_FILES)


def plain_console() -> Console:
    """A console with lines only, because a live table would disturb a debugger's prompt."""
    return Console(force_terminal=False, force_jupyter=False)
