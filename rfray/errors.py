"""Mistakes of the user, in one line: the only exception that is printed without a traceback."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails


class UserError(Exception):
    """A mistake that the user can correct: `what` is wrong, `where`, and what to `do` about it.

    The command line prints it as one line and exits with code 2, before anything has started.
    """

    def __init__(self, what: str, *, where: str = "", do: str = "") -> None:
        self.what = what
        self.where = where
        self.do = do
        place = f"{where}: " if where else ""
        remedy = f" ({do})" if do else ""
        super().__init__(f"{place}{what}{remedy}".replace("\n", " "))


class LostProcessError(Exception):
    """A process that computed a part of a stage died, so the stage must start again.

    This does not count as a failure of the stage, but as if the stage's own process had died.
    """


_MOST_NAMED, _FIRST_NAMED = 60, 5


def nearest(name: str, valid: Iterable[str]) -> str:
    """Advice that gives the valid name closest to `name`, or all valid names if none is close.

    If there are too many to read, such as all runs of a study, it gives the first ones.
    """
    names = sorted(valid)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    if close:
        return f"did you mean '{close[0]}'?"
    if len(names) > _MOST_NAMED:
        return f"valid: {', '.join(names[:_FIRST_NAMED])} and {len(names) - _FIRST_NAMED} more"
    return f"valid: {', '.join(names)}"


def first_line(error: BaseException) -> str:
    """The first line of an exception's message, or its type if there is none."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def in_words(details: ErrorDetails) -> str:
    """An error from pydantic in a sentence."""
    kind, value = details["type"], details["input"]
    if kind == "extra_forbidden":
        return f"unknown key '{details['loc'][-1]}'"
    if kind == "missing":
        return f"the key '{details['loc'][-1]}' is missing"
    if kind == "model_type":
        return f"it must have keys of its own, but it is {value!r}"
    message = details["msg"].removeprefix("Value error, ")
    message = message[:1].lower() + message[1:]
    return message if kind == "value_error" else f"{message}, but it is {value!r}"
