"""Chance level: the accuracy of a network that has learnt nothing. Pure."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

_ONE_SIDED_95 = 1.6448536269514722
"""The standard normal distribution's quantile at 0.95."""


@dataclass(frozen=True)
class TestImages:
    """The images that an accuracy was measured on: number of classes, number of test images."""

    __test__ = False  # because of its name, pytest would collect it as a test

    classes: int
    images: int

    @property
    def chance(self) -> float:
        """Accuracy of guessing, in percent: 100 / classes."""
        return 100 / self.classes

    @property
    def highest_at_chance(self) -> float:
        """The accuracy, in percent, that guessing exceeds with a probability of 5 %.

        Chance plus 1.645 standard errors √(p (1 − p) / n) of a share p of n images: the normal
        approximation of the binomial distribution (Agresti, Categorical Data Analysis, 2013, 1.3).
        """
        return self.chance + _ONE_SIDED_95 * self.sampling_error(self.chance)

    def sampling_error(self, accuracy: float) -> float:
        """The standard error of an accuracy, both in percent, due to the number of test images.

        √(p (1 − p) / n) for a share p of n independently drawn images: how much the accuracy of
        the same network would vary between test sets of this size.
        """
        p = accuracy / 100
        return 100 * math.sqrt(p * (1 - p) / self.images)


def at_chance(accuracies: Iterable[float], test: TestImages | None) -> bool:
    """Whether there are accuracies, in percent, and none of them is above chance level.

    False if the number of classes and test images is not known.
    """
    found = list(accuracies)
    return test is not None and bool(found) and max(found) <= test.highest_at_chance
