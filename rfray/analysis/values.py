"""Typed values from the strings in MLflow."""

import json
import math
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress

from rfray.parameters import is_number

Scalar = str | int | float | bool
"""One value of an axis or a parameter."""


def typed(name: str, value: object) -> Scalar:
    """The value of axis or parameter `name` with its type, so that equal values compare equal.

    Raises:
        ValueError: If the value does not have the type of `name` in the public schema.
    """
    return _TYPES.get(name, _parse)(str(value))


def is_finite(value: float) -> bool:
    """Whether a logged metric is finite; MLflow's SQL store writes infinity as ±1.797e308."""
    return math.isfinite(value) and abs(value) < sys.float_info.max


def agree(recorded: str, planned: object) -> bool:
    """Whether a run's parameter, a string, can be the value in the study document.

    A value may be resolved between plan and run: a planned `auto`, or a number or truth value that
    became a word, agrees.
    """
    if isinstance(planned, list | dict):
        read = _json(recorded)
        return not isinstance(read, type(planned)) or read == planned
    found = _parse(recorded)
    if isinstance(planned, str):
        return planned in {recorded, "auto"} or _parse(planned) == found
    if isinstance(planned, bool) and isinstance(found, bool):
        return planned == found
    if is_number(planned) and is_number(found):
        return math.isclose(float(str(planned)), float(found), rel_tol=1e-9)
    return True


def _json(text: str) -> object:
    """The value of a JSON text; None if it is not JSON."""
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return None


def same(name: str, recorded: str, wanted: Scalar) -> bool:
    """Whether a run's parameter equals the wanted value."""
    try:
        return typed(name, recorded) == wanted
    except ValueError:
        return False


def seed_list(text: str) -> tuple[int, ...] | None:
    """The seeds in a parameter such as `[0, 1]`; None if it is not a list of integers."""
    seeds = _json(text)
    if isinstance(seeds, list) and all(isinstance(seed, int) for seed in seeds):
        return tuple(sorted(seeds))
    return None


def show(value: object) -> str:
    """A value as text: 0.9, 128, cifar10; two different values never have the same text."""
    if isinstance(value, bool):
        return str(value).lower()
    if not isinstance(value, float):
        return str(value)
    short = f"{value:g}"
    return short if float(short) == value else repr(value)


def _integer(text: str) -> int:
    number = float(text)
    if not number.is_integer():
        raise ValueError(f"'{text}' is not an integer")
    return int(number)


def _real(text: str) -> float:
    number = round(float(text), 9)
    if not math.isfinite(number):
        raise ValueError(f"'{text}' is not a finite number")
    return number


def _parse(text: str) -> Scalar:
    if text in ("True", "False", "true", "false"):
        return text in ("True", "true")
    with suppress(ValueError):
        return int(text)
    with suppress(ValueError):
        number = float(text)
        return number if math.isfinite(number) else text
    return text


_TYPES: Mapping[str, Callable[[str], Scalar]] = {
    **dict.fromkeys(("dataset", "arch", "at"), str),
    **dict.fromkeys(("kernel_size", "strength", "asked_receptive_field"), _integer),
    **dict.fromkeys(("receptive_field", "map_size", "seed", "sample"), _integer),
    **dict.fromkeys(("width", "rate"), _real),
}
