"""How far a long step is, told to whoever listens in this thread.

Such a step lies many calls below those who know a person or a driver to tell: pictures are read
where the facts of a data set are asked for, and again where it is first used.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

T = TypeVar("T")

Listener = Callable[[str], None]
"""Takes a few words, such as `reading imagefolder: 4,096 of 60,000 pictures`."""

SECONDS_BETWEEN = 1.0


def _nobody(words: str) -> None:
    del words


_listener: ContextVar[Listener] = ContextVar("listener", default=_nobody)


@contextmanager
def told_to(listener: Listener) -> Iterator[None]:
    """Have `listener` told of what is read within the block."""
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)


def tell(words: str) -> None:
    """Say what is being done."""
    _listener.get()(words)


def each_second(
    what: str, total: int | None, unit: str, clock: Callable[[], float] = time.monotonic
) -> Callable[[int], None]:
    """A function that takes how many are done, and tells it once a second.

    Args:
        what: What is done, such as `reading cifar10`.
        total: How many there are; None if nobody knows.
        unit: What is counted.
        clock: Seconds.
    """
    of = "" if total is None else f" of {total:,}"
    told = clock()

    def done(count: int) -> None:
        nonlocal told
        if clock() - told >= SECONDS_BETWEEN:
            told = clock()
            tell(f"{what}: {count:,}{of} {unit}")

    return done


def counted(
    items: Iterable[T],
    total: int | None,
    what: str,
    unit: str = "pictures",
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[T]:
    """The items, with word each second of how many are done; see `each_second`."""
    done = each_second(what, total, unit, clock)
    for count, item in enumerate(items):
        done(count)
        yield item
