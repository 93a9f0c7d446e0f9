"""Chance level: what a network reaches that has learnt nothing. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

_ONE_SIDED_95 = 1.6448536269514722
"""The standard normal distribution's quantile at 0.95."""


@dataclass(frozen=True)
class TestImages:
    """What an accuracy was measured on: number of classes, and of test images."""

    __test__ = False  # pytest would take it for a test

    classes: int
    images: int

    @property
    def chance(self) -> float:
        """Accuracy of guessing, per cent: 100 / classes."""
        return 100 / self.classes

    @property
    def highest_at_chance(self) -> float:
        """The accuracy, per cent, above which guessing ends up with a probability of 5 % only.

        Chance and 1.645 standard errors √(p (1 − p) / n) of a share p among n images (the normal
        approximation of the binomial distribution; Agresti, Categorical Data Analysis, 2013, 1.3).
        """
        return self.chance + _ONE_SIDED_95 * self.sampling_error(self.chance)

    def sampling_error(self, accuracy: float) -> float:
        """The standard error of an accuracy, per cent, that so many test images leave, in points.

        √(p (1 − p) / n) of a share p among n images that are drawn independently: how far the
        accuracy of the same network would scatter over other test sets of this size.
        """
        p = accuracy / 100
        return 100 * math.sqrt(p * (1 - p) / self.images)


def at_chance(accuracies: Iterable[float], test: TestImages | None) -> bool:
    """Whether there are accuracies, and none of them, in per cent, is above chance level.

    False where nobody recorded what they were measured on.
    """
    found = list(accuracies)
    return test is not None and bool(found) and max(found) <= test.highest_at_chance
