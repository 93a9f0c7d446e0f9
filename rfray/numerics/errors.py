"""The one exception of `rfray.numerics`."""

from __future__ import annotations


class NumericsError(Exception):
    """An input for which the result is not defined, or an operator without a required property."""
