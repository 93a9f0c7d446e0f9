"""The one exception of `rfray.numerics`."""

from __future__ import annotations


class NumericsError(Exception):
    """An input that the mathematics cannot take, or an operator that breaks its promise."""
