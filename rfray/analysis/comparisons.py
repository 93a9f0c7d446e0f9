"""Compares two values of one setting, or two studies, seed by seed, where all else is equal."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from rfray.analysis import samples, schema
from rfray.analysis.mean_difference import MeanDifference, paired_test, welch_test
from rfray.analysis.report_file import Column, DifferenceColumn, Quantity, ReportSpec
from rfray.analysis.slots import Identity, without
from rfray.analysis.statistics import holm
from rfray.analysis.values import Scalar

if TYPE_CHECKING:
    from rfray.tracking import RunRecord

_NOT_COMPARED = ("dataset", "arch", schema.STUDY, *schema.TURNS)
"""Axes that the tables, the trend tests and the differences between studies compare already."""

BOTH_AT_CHANCE = "both are at chance level"
ONE_VALUE = "one value each, nothing to test"
SAME_RUNS = "both sides are the same runs, so there is no difference"


@dataclass(frozen=True)
class Comparison:
    """One value of a setting against another, of one metric of one network.

    Attributes:
        against: The value that it is compared with, the study's first.
        identity: The axes and values that both sides share.
        test: The test of value minus against.
        n_planned: Number of seeds that it should have.
        runs: Ids of the runs that were measured.
        same: Seeds that are not tested because their runs are the same on both sides.
        p_holm: The p-value, corrected by Holm for all comparisons; NaN where nothing was tested.
        n_tests: Number of comparisons that were tested.
    """

    axis: str
    value: Scalar
    against: Scalar
    quantity: Quantity
    identity: Identity
    test: MeanDifference
    n_planned: int
    runs: tuple[str, ...]
    same: tuple[int | None, ...] = ()
    p_holm: float = math.nan
    n_tests: int = 0

    @property
    def note(self) -> str:
        """Why nothing was tested, or which seeds are missing or not tested; else empty."""
        if self.test.reason:
            return self.test.reason
        notes = []
        if self.same:
            notes.append(f"the same runs at seed {', '.join(map(str, self.same))}: not tested")
        if self.test.n_against is None and self.n_tested < self.n_planned:
            notes.append(f"{self.n_tested} of {self.n_planned} seeds")
        return "; ".join(notes)

    @property
    def n_tested(self) -> int:
        """Seeds that both sides have, whether or not their runs are the same."""
        return self.test.n + (0 if self.test.reason == SAME_RUNS else len(self.same))


def comparisons(study: samples.Measurements) -> list[Comparison]:
    """The values of each further axis against its first value, as one family of tests.

    A further axis is one that is neither data set, network, kernel size nor seed. The comparison is
    of the headline metric of every stage that has seeds. Cells that differ in more than one axis
    are never compared.
    """
    axes = (axis for axis in study.frame.axes if axis not in _NOT_COMPARED)
    stages = {
        stage: [metric]
        for stage, metric in schema.HEADLINES.items()
        if schema.applies(schema.SEED, stage)
    }
    return _corrected([one for axis in axes for one in _over(axis, stages, study)])


def differences(study: samples.Measurements, layout: ReportSpec) -> list[Comparison]:
    """The difference of each study from the first, as one family of tests.

    Where two studies have a stage on the same cell, its headline metric is compared, and each of
    its metrics that a table of the report shows. A study alone has no differences.
    """
    return _corrected(list(_over(schema.STUDY, _metrics(layout), study)))


def _corrected(found: Sequence[Comparison]) -> list[Comparison]:
    adjusted = holm([comparison.test.p_value for comparison in found])
    n_tests = sum(not math.isnan(p_value) for p_value in adjusted)
    return [
        replace(comparison, p_holm=p_value, n_tests=n_tests)
        for comparison, p_value in zip(found, adjusted, strict=True)
    ]


def _metrics(layout: ReportSpec) -> dict[str, list[str]]:
    """The metrics to compare for each stage: its headline first, then those in the tables."""
    stages = {stage: metric for stage, metric in schema.HEADLINES.items() if _is_result(stage)}
    found = {stage: {metric: None} for stage, metric in stages.items()}
    for quantity in (one for table in layout.tables for one in _quantities(table.columns)):
        if _is_result(quantity.stage):
            found.setdefault(quantity.stage, {})[quantity.metric] = None
    return {stage: list(metrics) for stage, metrics in found.items()}


def _quantities(columns: Iterable[Column]) -> Iterable[Quantity]:
    """What columns measure with one value per run; of a difference, the metric that equals it."""
    for column in columns:
        if isinstance(column, DifferenceColumn):
            yield from () if column.equals is None else (column.equals,)
        elif column.over != "draws":
            yield column


def _over(
    axis: str, stages: Mapping[str, Sequence[str]], study: samples.Measurements
) -> Iterable[Comparison]:
    """The values of an axis against its first value, in some metrics of each stage."""
    against, *others = study.frame.document.axes.get(axis, (None,))
    if against is None:
        return
    for value in others:
        for stage, parameter, identity in study.places:
            if dict(identity).get(axis) != value:
                continue
            base = tuple((name, against if name == axis else v) for name, v in identity)
            if (stage, parameter, base) in study.places:
                for place, metric in enumerate(stages.get(stage, ())):
                    quantity = _quantity(stage, parameter, metric)
                    found = _comparison(axis, quantity, (identity, base), study)
                    # That no run measured it, or that the runs are the same, is said once a stage.
                    if place == 0 or (found.runs and found.test.reason != SAME_RUNS):
                        yield found


def _comparison(
    axis: str, quantity: Quantity, cells: tuple[Identity, Identity], study: samples.Measurements
) -> Comparison:
    value, against = (samples.measure_seeds(quantity, one, study) for one in cells)
    guessing = all(samples.is_at_chance(quantity, one, study) for one in cells)
    reason = BOTH_AT_CHANCE if guessing else ""
    test, same = _tested(value, against, reason)
    records = [*value.records, *against.records]
    if test.n_against is None:
        records = samples.difference(value, against, None).records
    return Comparison(
        axis=axis,
        value=dict(cells[0])[axis],
        against=dict(cells[1])[axis],
        quantity=quantity,
        identity=without(cells[0], axis),
        test=test,
        n_planned=_planned_in_both(quantity, cells, study)
        or max(value.n_planned, against.n_planned),
        runs=tuple(dict.fromkeys(record.run_id for record in records)),
        same=same,
    )


def _planned_in_both(
    quantity: Quantity, cells: tuple[Identity, Identity], study: samples.Measurements
) -> int:
    """Number of seeds that are planned on both sides."""
    place = (quantity.stage, quantity.parameter)
    value, against = ({slot.seed for slot in study.places[(*place, one)]} for one in cells)
    return len(value & against)


def _tested(
    value: samples.Sample, against: samples.Sample, reason: str
) -> tuple[MeanDifference, tuple[int | None, ...]]:
    """The test of value minus against, and the seeds at which both are the same runs.

    Paired by seed; two independent samples if they have no seed in common. A run is never tested
    against itself.
    """
    if value.values and against.values and value.values.keys().isdisjoint(against.values):
        return welch_test(list(value.values.values()), list(against.values.values()), reason), ()
    pairs = samples.difference(value, against, None).values
    same = tuple(seed for seed in pairs if _work(value.runs[seed]) == _work(against.runs[seed]))
    others = [gap for seed, gap in pairs.items() if seed not in same]
    if same and not others:
        return MeanDifference(len(same), 0.0, reason=SAME_RUNS), same
    reason = reason or (ONE_VALUE if set(pairs) == {None} else "")
    return paired_test(others, reason), same


def _work(runs: Sequence[RunRecord]) -> set[str]:
    """What runs computed: equal for the same run, and for runs with one key, one of them reused."""
    return {record.tags.get(schema.KEY_TAG) or record.run_id for record in runs}


def _is_result(stage: str) -> bool:
    """Whether a stage measures networks; the other stages choose their settings."""
    return stage not in schema.OF_A_SEARCH


def _quantity(stage: str, parameter: Scalar | None, metric: str) -> Quantity:
    own = schema.OWN_PARAMETER.get(stage)
    stated = {own: parameter} if own in Quantity.model_fields else {}
    return Quantity.model_validate({"stage": stage, "metric": metric, **stated})
