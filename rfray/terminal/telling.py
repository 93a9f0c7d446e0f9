"""Progress of a long step, told to the listener of this thread.

The step is many calls below the code that knows where to show the progress: images are read when
the facts of a data set are needed, and again when the data set is first used.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

T = TypeVar("T")

Listener = Callable[[str], None]
"""Takes a message, such as `reading imagefolder: 4,096 of 60,000 pictures`."""

SECONDS_BETWEEN = 1.0


_listener: ContextVar[Listener] = ContextVar("listener", default=lambda words: None)


@contextmanager
def told_to(listener: Listener) -> Iterator[None]:
    """Tell `listener` the progress within the block."""
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)


def tell(words: str) -> None:
    """Tell the listener what is being done."""
    _listener.get()(words)


def each_second(
    what: str, total: int | None, unit: str, clock: Callable[[], float] = time.monotonic
) -> Callable[[int], None]:
    """A function that takes the number done so far, and tells it at most once a second.

    Args:
        what: What is done, such as `reading cifar10`.
        total: The total number; None if it is not known.
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
    """The items; tells each second how many are done. Arguments as for `each_second`."""
    done = each_second(what, total, unit, clock)
    for count, item in enumerate(items):
        done(count)
        yield item
