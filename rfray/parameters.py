"""The base class of every typed document that a user writes: strict, immutable, no unknown keys."""

from collections.abc import Callable
from typing import Any, TypeGuard, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict

T = TypeVar("T")


class Parameters(BaseModel):
    """Validated and immutable; unknown keys, wrong types and impossible values are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


def is_number(value: object) -> TypeGuard[int | float]:
    """Whether a value is a number; true and false are not."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def refusing(problem: Callable[[T], str | None]) -> Callable[[T], T]:
    """A validator for pydantic. `problem` says what is wrong with a value; None if nothing is."""

    def checked(value: T) -> T:
        words = problem(value)
        if words is not None:
            raise ValueError(words)
        return value

    return checked


def _twice(values: list[Any]) -> str | None:
    twice = any(value == other for place, value in enumerate(values) for other in values[:place])
    return "a value is listed twice" if twice else None


NOTHING_TWICE = AfterValidator(refusing(_twice))
"""For a list: no value may be in it twice."""
