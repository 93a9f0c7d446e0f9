"""Where a person looks: a terminal, a file, a notebook."""

from __future__ import annotations

import sys

from rich.console import Console

_WIDTH_OF_FILES = 120


def usual_console() -> Console:
    """What suits standard output."""
    # Where no terminal sets a width, tables take what they need.
    return Console(width=None if sys.stdout.isatty() else _WIDTH_OF_FILES)


def plain_console() -> Console:
    """Lines alone: a debugger's prompt and a live table do not share a terminal."""
    return Console(force_terminal=False, force_jupyter=False)
