"""What a person sees while pictures are read for a plan: a line that changes, or one now and then.

On standard error, so that what a command prints for machines stays as it is.
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
    """Show what is told within the block; nothing where nothing is told.

    Args:
        console: Where to; standard error by default.
    """
    with ExitStack() as stack:
        shown = _Shown(console, stack)
        with told_to(shown.hear):
            yield


class _Shown:
    """Rich is imported with the first words: most plans read no picture."""

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
