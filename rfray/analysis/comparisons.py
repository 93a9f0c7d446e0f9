"""Two values of one setting, compared seed by seed where nothing else differs."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from rfray.analysis import schema
from rfray.analysis.chance import at_chance
from rfray.analysis.multiplicity import holm
from rfray.analysis.paired import PairedTest, paired_test
from rfray.analysis.report_file import Quantity
from rfray.analysis.samples import Measurements, Sample, difference, measure_seeds
from rfray.analysis.slots import Identity, without
from rfray.analysis.values import Scalar

_NOT_COMPARED = ("dataset", "arch", *schema.TURNS)
"""What the tables and the trend tests are about."""

BOTH_AT_CHANCE = "both are at chance level"


@dataclass(frozen=True)
class Comparison:
    """One value of a setting against another, of one metric of one network.

    Attributes:
        axis: The setting.
        value: The value.
        against: The value that it is compared with, the study's first.
        quantity: What was measured.
        identity: What both share.
        test: The paired test of value minus against.
        n_planned: How many seeds it should be over.
        runs: Ids of the runs that were measured.
        p_holm: The p-value adjusted for the number of comparisons; NaN where nothing was tested.
        n_tests: How many comparisons there are.
    """

    axis: str
    value: Scalar
    against: Scalar
    quantity: Quantity
    identity: Identity
    test: PairedTest
    n_planned: int
    runs: tuple[str, ...]
    p_holm: float = math.nan
    n_tests: int = 0

    @property
    def note(self) -> str:
        """Why nothing was tested, or how many seeds are missing; empty if nothing is to say."""
        short = f"{self.test.n} of {self.n_planned} seeds" if self.test.n < self.n_planned else ""
        return self.test.reason or short


def comparisons(study: Measurements) -> list[Comparison]:
    """Each further axis' values against its first, by stage and network, as one family of tests.

    A further axis is one that is neither data set, network, kernel size nor seed. Compared is the
    headline metric of every stage that has seeds; cells that differ in more than the one axis are
    never compared.
    """
    axes = (axis for axis in study.frame.axes if axis not in _NOT_COMPARED)
    found = [comparison for axis in axes for comparison in _over(axis, study)]
    adjusted = holm([comparison.test.p_value for comparison in found])
    n_tests = sum(not math.isnan(p_value) for p_value in adjusted)
    return [
        replace(comparison, p_holm=p_value, n_tests=n_tests)
        for comparison, p_value in zip(found, adjusted, strict=True)
    ]


def _over(axis: str, study: Measurements) -> Iterable[Comparison]:
    against, *others = study.frame.document.axes.get(axis, (None,))
    if against is None:
        return
    for value in others:
        for stage, parameter, identity in study.places:
            if dict(identity).get(axis) == value and _compared(stage):
                base = tuple((name, against if name == axis else v) for name, v in identity)
                if (stage, parameter, base) in study.places:
                    quantity = _headline(stage, parameter)
                    yield _comparison(axis, quantity, (identity, base), study)


def _comparison(
    axis: str, quantity: Quantity, cells: tuple[Identity, Identity], study: Measurements
) -> Comparison:
    value, against = (measure_seeds(quantity, one, study) for one in cells)
    sample = difference(value, against, None)
    reason = BOTH_AT_CHANCE if _at_chance(quantity, cells[0], (value, against), study) else ""
    return Comparison(
        axis=axis,
        value=dict(cells[0])[axis],
        against=dict(cells[1])[axis],
        quantity=quantity,
        identity=without(cells[0], axis),
        test=paired_test(list(sample.values.values()), reason),
        n_planned=sample.n_planned,
        runs=tuple(dict.fromkeys(record.run_id for record in sample.records)),
    )


def _at_chance(
    quantity: Quantity, identity: Identity, sides: Sequence[Sample], study: Measurements
) -> bool:
    """Whether both sides are accuracies of networks that do no better than guessing."""
    images = study.frame.document.datasets.get(str(dict(identity).get("dataset")))
    return quantity.metric == "test_accuracy" and all(
        at_chance(side.values.values(), images) for side in sides
    )


def _compared(stage: str) -> bool:
    return stage in schema.HEADLINES and schema.applies(schema.SEED, stage)


def _headline(stage: str, parameter: Scalar | None) -> Quantity:
    own = schema.OWN_PARAMETER.get(stage)
    stated = {} if own is None else {own: parameter}
    return Quantity.model_validate({"stage": stage, "metric": schema.HEADLINES[stage], **stated})


def by_setting(found: Sequence[Comparison]) -> dict[tuple[str, Scalar, Scalar], list[Comparison]]:
    """The comparisons of each (axis, value, against), in their order."""
    groups: dict[tuple[str, Scalar, Scalar], list[Comparison]] = {}
    for one in found:
        groups.setdefault((one.axis, one.value, one.against), []).append(one)
    return groups
