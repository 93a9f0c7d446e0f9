"""The space that a search draws from, and the order of its results. Pure."""

import math
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from rfray.errors import nearest
from rfray.grid import hashable
from rfray.parameters import NOTHING_TWICE, Parameters, is_number

Mode = Literal["max", "min"]

METRICS: Mapping[str, Mode] = MappingProxyType(
    {"validation_accuracy": "max", "validation_loss": "min"}
)
"""The metrics that may compare samples, and whether a higher or a lower value is better."""

Ends = Annotated[list[float], Field(min_length=2, max_length=2)]
"""The two ends of a range."""

_FEWEST_FOR_AN_EDGE = 3


class Domain(Parameters):
    """What the values of one setting are drawn from: exactly one of these."""

    uniform: Ends | None = Field(
        default=None, description="Any number between two numbers, uniformly."
    )
    log_uniform: Ends | None = Field(
        default=None, description="Any number between two numbers, uniformly in its logarithm."
    )
    integers: Annotated[list[int], Field(min_length=2, max_length=2)] | None = Field(
        default=None, description="Any integer from the first to the second, both included."
    )
    choice: Annotated[list[Any], Field(min_length=1), NOTHING_TWICE] | None = Field(
        default=None, description="One of these values."
    )

    @model_validator(mode="after")
    def _is_one_thing(self) -> Self:
        problem = _problem(self)
        if problem is not None:
            raise ValueError(problem)
        return self

    @property
    def kind(self) -> str:
        """The key that is given: `uniform`, `log_uniform`, `integers` or `choice`."""
        return next(name for name in type(self).model_fields if getattr(self, name) is not None)

    @property
    def values(self) -> list[Any]:
        """The two ends of a range, or all values of a choice."""
        found: list[Any] = getattr(self, self.kind)
        return found

    def __str__(self) -> str:
        """`log_uniform 0.001 to 1`, `choice of 0, 0.0005`."""
        if self.choice is not None:
            return f"choice of {', '.join(map(str, self.choice))}"
        low, high = self.values
        return f"{self.kind} {low:g} to {high:g}"


Space = Mapping[str, Domain]
"""What each searched setting is drawn from, by the setting's dotted name."""

Choice = Mapping[str, Any]
"""A value for each searched setting, by its dotted name."""

Tried = tuple[Choice, float | None]
"""The settings of a sample and its metric; None if it diverged."""


class Proposal(Parameters):
    """A sample whose settings follow from earlier samples.

    All samples of one round read the same earlier samples, and may run at the same time.
    """

    space: dict[str, Domain]
    startup: int = Field(description="Number of samples that are drawn, not proposed.")
    place: int = Field(description="Its place in its round, from 0.")


def metric_problem(metric: str) -> str | None:
    """What is wrong with a search's metric, in a sentence; None if nothing is."""
    if metric in METRICS:
        return None
    if metric.startswith("test_"):
        return f"{metric} is measured on the test images, which must not choose settings"
    return f"no sample reports '{metric}' ({nearest(metric, METRICS)})"


def best(values: Sequence[float], metric: str) -> int:
    """The index of the best value of a metric; the first one if several are equal."""
    pick = max if METRICS[metric] == "max" else min
    return pick(range(len(values)), key=values.__getitem__)


def rounds(drawn: int, samples: int, at_once: int) -> list[range]:
    """The numbers of the proposed samples, one range for each round."""
    return [range(first, min(first + at_once, samples)) for first in range(drawn, samples, at_once)]


def combinations(space: Space) -> float:
    """The number of choices in a space; infinite with a range of real numbers."""
    return math.prod((_count(domain) for domain in space.values()), start=1.0)


def at_edge(chosen: Any, tried: Iterable[Any]) -> str | None:
    """Whether the chosen value is the `lowest` or the `highest` of those tried; else None.

    Also None for values that are not numbers, and for fewer than three different values.
    """
    found = set(map(hashable, tried))
    if len(found) < _FEWEST_FOR_AN_EDGE or not all(map(is_number, found)):
        return None
    if chosen == min(found):
        return "lowest"
    return "highest" if chosen == max(found) else None


def _count(domain: Domain) -> float:
    match domain.kind:
        case "choice":
            return float(len(domain.values))
        case "integers":
            low, high = domain.values
            return float(high - low + 1)
    return math.inf


def _problem(domain: Domain) -> str | None:
    given = [name for name in type(domain).model_fields if getattr(domain, name) is not None]
    if len(given) != 1:
        return f"write exactly one of {', '.join(type(domain).model_fields)}"
    if domain.choice is not None:
        return None
    low, high = domain.values
    if low >= high:
        return f"the range is empty: {low:g} is not below {high:g}"
    if domain.log_uniform is not None and low <= 0:
        return f"log_uniform must begin above 0, not at {low:g}"
    return None
