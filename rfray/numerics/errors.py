"""The one exception of `rfray.numerics`."""

from collections.abc import Iterator
from contextlib import contextmanager


class NumericsError(Exception):
    """An input for which the result is not defined, or an operator without a required property."""


@contextmanager
def naming(layer: str) -> Iterator[None]:
    """A context whose NumericsError names the layer."""
    try:
        yield
    except NumericsError as error:
        raise NumericsError(f"layer '{layer}': {error}") from error
