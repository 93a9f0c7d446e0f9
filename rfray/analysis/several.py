"""Several studies side by side: the study is one more axis.

Rows, panels and colours treat this axis as any other. Settings that each study fixes to its own
value are listed once, and do not make rows different.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import pandas as pd

from rfray.analysis import schema
from rfray.analysis.document import StudyDocument, identity_axes
from rfray.analysis.expected import Expected, expected_slots
from rfray.analysis.frame import StudyFrame, StudyRuns, finished, frame_of, read_runs
from rfray.analysis.report_file import ReportSpec
from rfray.analysis.slots import Identity, without
from rfray.analysis.values import Scalar, show, typed
from rfray.errors import UserError

if TYPE_CHECKING:
    from rfray.tracking import Ledger, RunRecord

_MATCHED = frozenset({"dataset", "arch", schema.SEED, *schema.TURNS})
"""Axes whose values match the studies' cells, even if each study has only one value."""


def read_studies(ledger: Ledger, studies: Sequence[str]) -> StudyFrame:
    """Reads several studies of one store as one frame with the axis `study`.

    Raises:
        UserError: If one is named twice, is unknown or has no finished run, or if they have
            nothing in common that can be compared.
    """
    twice = next((study for study in studies if studies.count(study) > 1), None)
    if twice is not None:
        raise UserError(f"study '{twice}' is named twice", do="name each study once")
    frame = side_by_side([read_runs(ledger, study) for study in studies], ledger.tracking_uri)
    for part in frame.parts:
        finished(part)
    _refuse_strangers(frame)
    return frame


def side_by_side(found: Sequence[StudyRuns], tracking_uri: str) -> StudyFrame:
    """The frame of several studies, with the axis `study`; its `parts` are the frames of each.

    An axis of one study is an axis of all: in a study that fixes it, all runs have that value. The
    exception is an axis on which each study has only its own value: it is no axis of the frame.

    Raises:
        UserError: If they change the receptive field along different axes.
    """
    documents = [one.document for one in found]
    _refuse_other_sizes(found)
    shared = _shared_axes(documents)
    aligned = [_aligned(one, shared) for one in found]
    merged = _merged(aligned)
    labelled = [_labelled(one, document) for one, document in zip(found, aligned, strict=True)]
    records = [record for one in labelled for record in one.records]
    axes = tuple(one for one in identity_axes(merged, records) if one in shared)
    axes = (*(one for one in axes if one != schema.STUDY), schema.STUDY)
    parts = tuple(
        frame_of(one, document, axes, tracking_uri)
        for one, document in zip(labelled, aligned, strict=True)
    )
    return StudyFrame(
        study=" and ".join(part.study for part in parts),
        tracking_uri=tracking_uri,
        experiment_id=parts[0].experiment_id,
        document=merged,
        axes=axes,
        rows=pd.concat([part.rows for part in parts], ignore_index=True),
        left_out=pd.concat([part.left_out for part in parts], ignore_index=True),
        kept={slot: record for part in parts for slot, record in part.kept.items()},
        dropped=tuple(entry for part in parts for entry in part.dropped),
        parts=parts,
    )


def expected_of_all(frame: StudyFrame) -> Expected:
    """The slots of each study of a frame, one study after the other."""
    each = [expected_slots(one) for one in frame.studies]
    return Expected(
        planned=tuple(slot for one in each for slot in one.planned),
        beyond=tuple(slot for one in each for slot in one.beyond),
    )


def studies_together(layout: ReportSpec) -> ReportSpec:
    """The layout with the studies next to each other in every table, at each receptive field.

    A table that already has another axis in `together` keeps it.
    """
    tables = tuple(
        table if table.together else table.model_copy(update={"together": schema.STUDY})
        for table in layout.tables
    )
    return layout.model_copy(update={"tables": tables})


def settings_apart(frame: StudyFrame) -> list[str]:
    """The settings that all studies of a frame fix, to different values, each in words."""
    fixed = {part.study: _fixed(part.document, frame.axes) for part in frame.parts}
    said = []
    for name in next(iter(fixed.values())):
        values = {study: those[name] for study, those in fixed.items() if name in those}
        if len(values) == len(fixed) and len(set(values.values())) > 1:
            listed = ", ".join(f"{value} in {study}" for study, value in values.items())
            said.append(f"{name} is {listed}")
    return said


def _fixed(document: StudyDocument, axes: Collection[str]) -> dict[str, str]:
    """A study's settings that are not axes of the frame, as text."""
    swept = {name for own in schema.OWN_PARAMETER.values() for name in (own, f"{own}s")}
    settings: dict[str, object] = {
        f"{stage}.{name}": value
        for stage, those in document.stages.items()
        for name, value in those.items()
        if name not in swept
    }
    settings |= {name: values[0] for name, values in document.axes.items() if len(values) == 1}
    if not document.inferred:
        settings["data.validation"] = document.validation or 0
    passed_over = {*axes, schema.SEED}
    return {name: show(v) for name, v in settings.items() if name not in passed_over}


def _shared_axes(documents: Sequence[StudyDocument]) -> tuple[str, ...]:
    """All axes of the studies, except those on which each study has only its own value."""
    names = dict.fromkeys(axis for document in documents for axis in document.axes)
    return (*(axis for axis in names if not _own(axis, documents)), schema.STUDY)


def _own(axis: str, documents: Sequence[StudyDocument]) -> bool:
    values = [document.axes.get(axis, ()) for document in documents]
    single = all(len(those) == 1 for those in values)
    return single and len(set(values)) > 1 and axis not in _MATCHED


def _aligned(found: StudyRuns, axes: Iterable[str]) -> StudyDocument:
    """A study's plan on the axes that the studies share."""
    document = found.document
    fixed = {axis: v for axis in axes if (v := _setting(document, axis)) is not None}
    fixed[schema.STUDY] = found.study
    points = tuple({**fixed, **point} for point in document.points)
    values = {axis: (value,) for axis, value in fixed.items()}
    return replace(document, axes={**values, **document.axes}, points=points)


def _setting(document: StudyDocument, axis: str) -> Scalar | None:
    """The one value that a stage's setting has in a study; None if it has several or none."""
    stage, _, name = axis.partition(".")
    value = document.stages.get(stage, {}).get(name)
    return None if value is None or axis in document.axes else typed(axis, value)


def _labelled(found: StudyRuns, document: StudyDocument) -> StudyRuns:
    """A study's runs, with its value for each axis that only other studies vary."""
    added = {
        axis: str(values[0])
        for axis, values in document.axes.items()
        if axis not in found.document.axes
    }
    return replace(found, records=tuple(_with(added, record) for record in found.records))


def _with(added: Mapping[str, str], record: RunRecord) -> RunRecord:
    stage = record.tags.get(schema.STAGE_TAG, "")
    applying = {axis: text for axis, text in added.items() if schema.applies(axis, stage)}
    return replace(record, params={**record.params, **applying})


def _merged(documents: Sequence[StudyDocument]) -> StudyDocument:
    """The plan of all studies; the slots of each study come from its own plan only."""
    names = dict.fromkeys(axis for document in documents for axis in document.axes)
    return StudyDocument(
        axes={
            axis: tuple(dict.fromkeys(v for one in documents for v in one.axes.get(axis, ())))
            for axis in sorted(names, key=lambda axis: axis == schema.STUDY)
        },
        points=tuple(point for document in documents for point in document.points),
        stages={stage: those for one in reversed(documents) for stage, those in one.stages.items()},
        parameters={},
        inferred=any(document.inferred for document in documents),
        datasets={name: facts for one in documents for name, facts in one.datasets.items()},
    )


def _refuse_other_sizes(found: Sequence[StudyRuns]) -> None:
    sizes = {one.study: one.document.size_axis for one in found}
    if len(set(sizes.values())) > 1:
        ways = ", ".join(f"{study} by {axis}" for study, axis in sizes.items())
        what = f"the studies change the receptive field in different ways: {ways}"
        raise UserError(what, do="compare studies that change it in the same way")


def _refuse_strangers(frame: StudyFrame) -> None:
    """Refuses a study that has no stage on the same cell as the first study."""
    first, *others = (_places(part) for part in frame.parts)
    for part, places in zip(frame.parts[1:], others, strict=True):
        if first.isdisjoint(places):
            what = f"studies '{frame.parts[0].study}' and '{part.study}' have nothing in common"
            raise UserError(what, do=_where_apart(frame.parts[0], part))


def _places(part: StudyFrame) -> set[tuple[str, Scalar | None, Identity]]:
    return {
        (slot.stage, slot.parameter, without(slot.identity, schema.STUDY))
        for slot in expected_slots(part).slots
    }


def _where_apart(one: StudyFrame, other: StudyFrame) -> str:
    """The first axis on which two studies share no value."""
    for axis in one.axes:
        here, there = (part.document.axes.get(axis, ()) for part in (one, other))
        if axis != schema.STUDY and set(here).isdisjoint(there):
            mine, theirs = (" or ".join(map(show, values)) or "none" for values in (here, there))
            return f"{axis} is {mine} in {one.study} and {theirs} in {other.study}"
    return "no stage of one is on a network of the other"
