"""The base of every typed document that a user writes: strict, frozen, nothing unknown in it."""

from __future__ import annotations

from typing import Any

from pydantic import AfterValidator, BaseModel, ConfigDict


class Parameters(BaseModel):
    """Validated and immutable; unknown keys, wrong types and impossible values are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


def _nothing_twice(values: list[Any]) -> list[Any]:
    if any(value == other for place, value in enumerate(values) for other in values[:place]):
        raise ValueError("a value is listed twice")
    return values


NOTHING_TWICE = AfterValidator(_nothing_twice)
"""For a list: no value may stand in it twice."""
