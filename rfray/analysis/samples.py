"""Samples: the values from which one number of a table is computed, and their flaws in words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from rfray.analysis import schema
from rfray.analysis.chance import at_chance
from rfray.analysis.expected import Expected, Gap, absence, gap_at
from rfray.analysis.frame import StudyFrame
from rfray.analysis.report_file import MeasuredColumn, Quantity, ReportSpec
from rfray.analysis.slots import Identity, Slot, applying
from rfray.analysis.values import Scalar, is_finite
from rfray.device.hardware import recorded_precision

if TYPE_CHECKING:
    from rfray.tracking import Ledger, RunRecord

_SAME_ACCURACY = 0.05
"""Percentage points: more than the rounding of a test accuracy over 10,000 images."""

_Place = tuple[str, Scalar | None, Identity]
_Histories = Mapping[tuple[str, str], Sequence[tuple[int, float]]]


@dataclass(frozen=True)
class Sample:
    """The values from which one number is computed.

    Attributes:
        values: Finite values by seed or draw.
        n_planned: Number of values that there should be.
        gaps: Each missing value, by name and reason.
        notes: Every flaw in a few words, including the gaps.
        runs: The runs that were measured, by seed; under None if the runs have no seed.
    """

    values: Mapping[int | None, float]
    n_planned: int
    gaps: tuple[Gap, ...]
    notes: tuple[str, ...]
    runs: Mapping[int | None, tuple[RunRecord, ...]]

    @property
    def records(self) -> list[RunRecord]:
        """All runs that were measured."""
        return [record for records in self.runs.values() for record in records]


@dataclass(frozen=True)
class Measurements:
    """A study's frame with all else that tables read.

    `histories` are (step, value) of metrics with one value per draw, by run id and metric.
    """

    frame: StudyFrame
    expected: Expected
    histories: _Histories

    @cached_property
    def places(self) -> Mapping[_Place, tuple[Slot, ...]]:
        """The slots by stage, parameter and identity: those of one place differ in the seed."""
        grouped: dict[_Place, list[Slot]] = {}
        for slot in self.expected.slots:
            place = (slot.stage, slot.parameter, slot.identity)
            grouped.setdefault(place, []).append(slot)
        return {place: tuple(slots) for place, slots in grouped.items()}

    def slots(self, quantity: Quantity, identity: Identity) -> tuple[Slot, ...]:
        """The slots of a quantity in one cell; none if its network does not show the metric."""
        if not self.frame.document.measures(quantity.metric, dict(identity)):
            return ()
        own = applying(identity, quantity.stage)
        return self.places.get((quantity.stage, quantity.parameter, own), ())

    @cached_property
    def doubled(self) -> Mapping[Slot, int]:
        """For each slot, the number of finished runs besides the one that counts."""
        entries = self.frame.dropped
        return Counter(one.slot for one in entries if one.kind == "duplicate" and one.slot)


def read_histories(ledger: Ledger, frame: StudyFrame, report: ReportSpec) -> _Histories:
    """The metric histories for the report's columns over draws."""
    columns = [column for table in report.tables for column in table.measured.values()]
    histories: dict[tuple[str, str], Sequence[tuple[int, float]]] = {}
    for stage, metric in sorted({(c.stage, c.metric) for c in columns if c.over == "draws"}):
        run_ids = [
            record.run_id
            for slot, record in frame.kept.items()
            if slot.stage == stage and metric in record.metrics
        ]
        for run_id, history in ledger.metric_histories(run_ids, metric).items():
            histories[run_id, metric] = history
    return histories


def measure(column: MeasuredColumn, identity: Identity, study: Measurements) -> Sample:
    """The sample of one cell: one value per seed, or one value per draw of its run."""
    if column.over == "draws":
        return _over_draws(column, identity, study)
    return measure_seeds(column, identity, study)


def measure_seeds(quantity: Quantity, identity: Identity, study: Measurements) -> Sample:
    """The latest value of a metric for each seed of a cell."""
    values: dict[int | None, float] = {}
    gaps: list[Gap] = []
    notes: list[str] = []
    runs: dict[int | None, tuple[RunRecord, ...]] = {}
    slots = study.slots(quantity, identity)
    for slot in slots:
        record = study.frame.kept.get(slot)
        flaw = _flaw(slot, record, quantity.metric, study)
        if record is not None and flaw is None:
            values[slot.seed] = record.metrics[quantity.metric]
            runs[slot.seed] = (record,)
        elif flaw is not None:
            gaps.append(gap_at(slot, flaw, study.frame))
            notes.append(f"{_named(slot)} {flaw}")
        notes += _doubled(slot, study)
    notes += _mixed_settings([record for (record,) in runs.values()], study.frame.axes)
    notes += _mixed_precision(runs)
    return Sample(values, len(slots), tuple(gaps), tuple(notes), runs)


def is_at_chance(quantity: Quantity, identity: Identity, study: Measurements) -> bool:
    """Whether a quantity depends on test accuracies of a cell, and these are at chance level."""
    if quantity.metric not in schema.RESTS_ON_TEST_ACCURACY:
        return False
    accuracies = measure_seeds(quantity.with_metric("test_accuracy"), identity, study).values
    return at_chance(accuracies.values(), study.frame.document.test_images(identity))


def difference(first: Sample, second: Sample, logged: Sample | None) -> Sample:
    """First minus second for each seed that has both.

    `logged` is the same difference as the runs logged it, for a check; None if they do not.
    """
    values = {
        seed: first.values[seed] - second.values[seed]
        for seed in first.values
        if seed in second.values
    }
    notes = [*first.notes, *second.notes]
    for seed, value in values.items():
        stated = None if logged is None else logged.values.get(seed)
        if stated is not None and abs(stated - value) > _SAME_ACCURACY:
            who = "" if seed is None else f"seed {seed}: "
            notes.append(f"{who}the run logged {stated:.2f}, the difference is {value:.2f}")
    runs = {seed: (*first.runs[seed], *second.runs[seed]) for seed in values}
    notes += _mixed_precision(runs)
    return Sample(
        values=values,
        n_planned=max(first.n_planned, second.n_planned),
        gaps=tuple(dict.fromkeys([*first.gaps, *second.gaps])),
        notes=tuple(dict.fromkeys(notes)),
        runs=runs,
    )


def _over_draws(column: MeasuredColumn, identity: Identity, study: Measurements) -> Sample:
    slots = study.slots(column, identity)
    slot = next((slot for slot in slots if slot in study.frame.kept), None)
    record = None if slot is None else study.frame.kept[slot]
    if slot is None or record is None or column.metric not in record.metrics:
        return measure_seeds(column, identity, study)
    history = study.histories[record.run_id, column.metric]
    draws: dict[int, set[float]] = {}
    for step, value in history:
        draws.setdefault(step, set()).add(value)
    flaws = {step: flaw for step, found in draws.items() if (flaw := _draw_flaw(found))}
    planned = _planned_draws(record, len(draws))
    few = [f"{len(draws)} of {planned} draws were logged"] if len(draws) < planned else []
    return Sample(
        values={step: next(iter(found)) for step, found in draws.items() if step not in flaws},
        n_planned=planned,
        gaps=tuple(
            gap_at(slot, f"draw {step} of {column.metric} {flaw}", study.frame)
            for step, flaw in flaws.items()
        ),
        notes=(*(f"draw {n} {flaw}" for n, flaw in flaws.items()), *few, *_doubled(slot, study)),
        runs={None: (record,)},
    )


def _draw_flaw(found: set[float]) -> str:
    if len(found) > 1:
        return f"has {len(found)} different values"
    (value,) = found
    return "" if is_finite(value) else f"is {value}"


def _planned_draws(record: RunRecord, logged: int) -> int:
    text = record.params.get("draws", "")
    return max(int(text), logged) if text.isdecimal() else logged


def _flaw(slot: Slot, record: RunRecord | None, metric: str, study: Measurements) -> str | None:
    if record is None:
        return absence(slot, study.frame)
    if metric not in record.metrics:
        return f"has no metric {metric}"
    value = record.metrics[metric]
    return None if is_finite(value) else f"has {metric} = {value}"


def _doubled(slot: Slot, study: Measurements) -> list[str]:
    if slot not in study.doubled:
        return []
    runs = study.doubled[slot] + 1
    return [f"{_named(slot)} has {runs} finished runs, the latest counts"]


def _named(slot: Slot) -> str:
    return f"{'' if slot.seed is None else f'seed {slot.seed}: '}{slot.stage_label()}"


def _mixed_settings(runs: Sequence[RunRecord], axes: Iterable[str]) -> list[str]:
    """Names the params, other than the seed, in which the runs of one cell differ."""
    passed_over = {
        *axes,
        *schema.OWN_PARAMETER.values(),
        schema.SEED,
        "receptive_field",
        # It changes no number, and runs of older versions do not record it.
        "cuda_graph",
    }
    names = dict.fromkeys(name for record in runs for name in record.params)
    notes = []
    for name in names:
        found = dict.fromkeys(record.params.get(name, "not recorded") for record in runs)
        if name not in passed_over and len(found) > 1:
            notes.append(f"the seeds differ in {name} ({', '.join(found)})")
    return notes


def precision_of(record: RunRecord) -> str | None:
    """The precision that a run was computed in; None if it is not recorded."""
    return recorded_precision(record.params, record.tags.get(schema.HARDWARE_TAG, ""))


def _mixed_precision(runs: Mapping[int | None, tuple[RunRecord, ...]]) -> list[str]:
    """Says which seeds were computed in which precision, if there are several."""
    seeds: dict[str, list[str]] = {}
    for seed, records in runs.items():
        for precision in dict.fromkeys(map(precision_of, records)):
            if precision is not None:
                seeds.setdefault(precision, []).append(str(seed))
    if len(seeds) < 2:
        return []
    said = "; ".join(f"{precision}: seed {', '.join(those)}" for precision, those in seeds.items())
    return [f"the runs have different precisions ({said})"]
