"""The frame: a study's runs as a table, one row for each finished stage."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import pandas as pd

from rfray.analysis import schema
from rfray.analysis.document import StudyDocument, identity_axes, infer_document, parse_document
from rfray.analysis.screening import LeftOut, screen
from rfray.analysis.slots import CellNames, Identity, Slot, without
from rfray.analysis.values import Scalar, is_finite, typed
from rfray.errors import UserError

if TYPE_CHECKING:
    from rfray.tracking import Ledger, RunRecord

_TYPES = {
    "study": "str",
    "stage": "str",
    "dataset": "str",
    "arch": "str",
    "kernel_size": "Int64",
    "receptive_field": "Int64",
    "seed": "Int64",
    "width": "Float64",
    "rate": "Float64",
    "at": "str",
    "key": "str",
    "run_id": "str",
    "status": "str",
    "name": "str",
    "started": "datetime64[ms, UTC]",
    "seconds": "Float64",
}


@dataclass(frozen=True)
class StudyFrame:
    """A study as its runs show it.

    Attributes:
        study: Name of the study, which is its MLflow experiment.
        tracking_uri: The tracking store that it was read from.
        experiment_id: Its experiment in that store.
        document: What was planned, recorded by the driver or inferred from the runs.
        axes: The axes that make table rows different: every axis but the seed.
        rows: One row for each finished stage that counts: `study stage dataset arch kernel_size
            receptive_field seed width rate at key run_id status name started seconds`, any further
            axis of the study, and the latest value of each metric (`metric.<name>` if a metric has
            the name of another column). Empty if a column does not apply.
        left_out: One row for each run that does not count: `name stage kind reason status started
            run_id`.
        kept: The run that fills each slot.
        dropped: The runs of `left_out`.
        parts: If the frame is of several studies, the frame of each; else empty.
    """

    study: str
    tracking_uri: str
    experiment_id: str
    document: StudyDocument
    axes: tuple[str, ...]
    rows: pd.DataFrame
    left_out: pd.DataFrame
    kept: Mapping[Slot, RunRecord]
    dropped: tuple[LeftOut, ...]
    parts: tuple[StudyFrame, ...] = ()

    @property
    def studies(self) -> tuple[StudyFrame, ...]:
        """The frame of each study: this frame itself if it is of one study."""
        return self.parts or (self,)

    @property
    def records(self) -> tuple[RunRecord, ...]:
        """All its runs, including those that do not count."""
        return (*self.kept.values(), *(entry.record for entry in self.dropped))

    @cached_property
    def run_ids(self) -> frozenset[str]:
        """The ids of all its runs."""
        return frozenset(record.run_id for record in self.records)

    @property
    def attempted(self) -> list[Slot]:
        """The slots of its runs that do not count, as far as they are known."""
        return [entry.slot for entry in self.dropped if entry.slot is not None]

    @cached_property
    def names(self) -> CellNames:
        """The namer of this study's cells."""
        planned = [((axis, v),) for axis in self.axes for v in self.document.axes.get(axis, ())]
        return CellNames.of([*(slot.identity for slot in (*self.kept, *self.attempted)), *planned])

    @cached_property
    def attempts(self) -> Mapping[Slot, LeftOut]:
        """For each slot, the latest run that was left out."""
        ordered = sorted(self.dropped, key=lambda entry: entry.record.start_time)
        return {entry.slot: entry for entry in ordered if entry.slot is not None}

    def block(self, identity: Identity) -> Identity:
        """What a cell shares with the cells that differ in the receptive field only.

        That is in the kernel size, or in the other axis along which the study changes it.
        """
        return self.block_over(self.document.size_axis, identity)

    def block_over(self, axis: str, identity: Identity) -> Identity:
        """What a cell shares with the cells that differ in `axis` only.

        Without `axis` and the axes whose value follows from it. Axes of the runs that the document
        does not plan are part of it.
        """
        planned, shared = self.document.axes, self.document.beside(axis)
        return tuple(
            (name, value)
            for name, value in identity
            if name != axis and (name in shared or name not in planned)
        )

    def position(self, identity: Identity) -> list[tuple[int, str, Scalar]]:
        """A sort key: cells in the study's order of values, by kernel size within a block."""
        positions = []
        block = self.block(identity)
        ordered = (*block, *(pair for pair in identity if pair not in block))
        size = self.document.size_axis
        for axis, value in sorted(ordered, key=lambda pair: pair[0] == size):
            planned = self.document.axes.get(axis, ()) if axis != size else ()
            place = planned.index(value) if value in planned else len(planned)
            positions.append((place, type(value).__name__ if isinstance(value, str) else "", value))
        return positions

    def receptive_fields(self, identity: Identity) -> frozenset[int]:
        """The receptive fields that runs record for a cell, or else for its network on any data.

        Normally one value; several if runs contradict each other; none if no run records it.
        """
        fields = self._receptive_fields
        return fields.get(identity) or fields.get(without(identity, "dataset"), frozenset())

    @cached_property
    def _receptive_fields(self) -> dict[Identity, frozenset[int]]:
        fields: dict[Identity, set[int]] = {}
        attempts = ((entry.slot, entry.record) for entry in self.dropped if entry.slot is not None)
        for slot, record in (*self.kept.items(), *attempts):
            field = receptive_field(record)
            if field is not None:
                for identity in {slot.identity, without(slot.identity, "dataset")}:
                    fields.setdefault(identity, set()).add(field)
        return {identity: frozenset(found) for identity, found in fields.items()}


@dataclass(frozen=True)
class StudyRuns:
    """A study as it is in the store, before it is decided which of its runs count."""

    study: str
    experiment_id: str
    document: StudyDocument
    records: tuple[RunRecord, ...]


def read_frame(ledger: Ledger, study: str) -> StudyFrame:
    """Reads a study's runs, without a request for each: thousands of runs take seconds.

    Raises:
        UserError: If the store has no such study, or its document does not have the public form.
    """
    found = read_runs(ledger, study)
    axes = identity_axes(found.document, found.records)
    return frame_of(found, found.document, axes, ledger.tracking_uri)


def read_runs(ledger: Ledger, study: str) -> StudyRuns:
    """Reads a study's runs and its plan.

    Raises:
        UserError: If the store has no such study, or its document does not have the public form.
    """
    records = tuple(ledger.runs(study))
    stated = ledger.study_document(study)
    seen = {record.tags[schema.STAGE_TAG] for record in records if schema.STAGE_TAG in record.tags}
    document = infer_document(records) if stated is None else parse_document(stated, seen)
    return StudyRuns(study, ledger.experiment_id(study), document, records)


def frame_of(
    found: StudyRuns, document: StudyDocument, axes: tuple[str, ...], tracking_uri: str
) -> StudyFrame:
    """The frame of a study's runs, with its plan on the frame's axes."""
    kept, dropped = screen(found.records, found.document, axes)
    return StudyFrame(
        study=found.study,
        tracking_uri=tracking_uri,
        experiment_id=found.experiment_id,
        document=document,
        axes=axes,
        rows=_rows(found.study, axes, kept),
        left_out=_left_out(dropped),
        kept=kept,
        dropped=dropped,
    )


def finished(frame: StudyFrame) -> StudyFrame:
    """The frame itself if at least one of its runs counts.

    Raises:
        UserError: If none does, with the number of runs of each other kind.
    """
    if frame.kept:
        return frame
    counts = frame.left_out["kind"].value_counts()
    there = ", ".join(f"{count} {kind}" for kind, count in counts.items()) or "no run at all"
    what = f"study '{frame.study}' has no finished run"
    raise UserError(what, where=frame.tracking_uri, do=f"it has {there}")


def not_finite(frame: StudyFrame) -> list[tuple[Slot, str, float]]:
    """(slot, metric, value) of each latest metric that is not a finite number."""
    return [
        (slot, metric, value)
        for slot, record in frame.kept.items()
        for metric, value in record.metrics.items()
        if not is_finite(value)
    ]


def _rows(study: str, axes: Sequence[str], kept: Mapping[Slot, RunRecord]) -> pd.DataFrame:
    others = [axis for axis in axes if axis not in _TYPES]
    taken = {*_TYPES, *others}
    metrics = sorted({metric for record in kept.values() for metric in record.metrics})
    columns = [*_TYPES, *others]
    columns += [f"metric.{metric}" if metric in taken else metric for metric in metrics]
    rows = [_row(study, slot, record, taken) for slot, record in kept.items()]
    frame = pd.DataFrame(rows, columns=columns)
    frame["started"] = pd.to_datetime(frame["started"], unit="ms", utc=True)
    return frame.astype(_TYPES)


def _row(study: str, slot: Slot, record: RunRecord, taken: Iterable[str]) -> dict[str, object]:
    ended = record.end_time
    row: dict[str, object] = {
        "study": study,
        "stage": slot.stage,
        **dict(slot.identity),
        "receptive_field": receptive_field(record),
        "seed": slot.seed,
        "key": record.tags.get(schema.KEY_TAG),
        "run_id": record.run_id,
        "status": record.status,
        "name": record.name,
        "started": record.start_time,
        "seconds": None if ended is None else (ended - record.start_time) / 1000,
    }
    own = schema.OWN_PARAMETER.get(slot.stage)
    if own is not None:
        row[own] = slot.parameter
    for metric, value in record.metrics.items():
        row[f"metric.{metric}" if metric in taken else metric] = value
    return row


def receptive_field(record: RunRecord) -> int | None:
    """The theoretical receptive field that a run records; None if it records none."""
    try:
        return int(typed("receptive_field", record.params["receptive_field"]))
    except (KeyError, ValueError):
        return None


def _left_out(entries: Iterable[LeftOut]) -> pd.DataFrame:
    rows = [
        {
            "name": entry.record.name,
            "stage": entry.record.tags.get(schema.STAGE_TAG),
            "kind": entry.kind,
            "reason": entry.reason,
            "status": entry.record.status,
            "started": entry.record.start_time,
            "run_id": entry.record.run_id,
        }
        for entry in entries
    ]
    columns = ["name", "stage", "kind", "reason", "status", "started", "run_id"]
    frame = pd.DataFrame(rows, columns=columns)
    frame["started"] = pd.to_datetime(frame["started"], unit="ms", utc=True)
    return frame
