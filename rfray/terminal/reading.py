"""Progress of reading images for a plan: a line that changes, or a line every 30 seconds.

It goes to standard error, so that standard output has only the result of the command.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from rfray.terminal.telling import told_to

if TYPE_CHECKING:
    from rich.console import Console
    from rich.status import Status

LINE_SECONDS = 30.0


@contextmanager
def reading_shown(console: Console | None = None) -> Iterator[None]:
    """Show the progress that is told within the block, by default on standard error."""
    with ExitStack() as stack:
        shown = _Shown(console, stack)
        with told_to(shown.hear):
            yield


class _Shown:
    """Rich is imported with the first message: most plans read no images."""

    def __init__(self, console: Console | None, stack: ExitStack) -> None:
        self._console = console
        self._stack = stack
        self._status: Status | None = None
        self._line = -LINE_SECONDS

    def hear(self, words: str) -> None:
        if self._console is None:
            from rich.console import Console

            self._console = Console(stderr=True)
        if self._console.is_terminal:
            self._update(self._console, words)
        elif time.monotonic() - self._line >= LINE_SECONDS:
            self._line = time.monotonic()
            self._console.print(words, soft_wrap=True, highlight=False, markup=False)

    def _update(self, console: Console, words: str) -> None:
        from rich.text import Text

        if self._status is None:
            self._status = self._stack.enter_context(console.status(Text(words)))
        self._status.update(Text(words))
