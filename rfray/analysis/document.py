"""The study as its driver recorded it, or as it can be inferred from the runs alone."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rfray.analysis import schema
from rfray.analysis.values import Scalar, typed
from rfray.errors import UserError

if TYPE_CHECKING:
    from rfray.tracking import RunRecord


@dataclass(frozen=True)
class StudyDocument:
    """What was planned.

    Attributes:
        axes: The planned values of each axis, in the order in which the study names them.
        stages: Each planned stage with its settings.
        parameters: The planned values of each stage's own parameter, where they are stated.
        inferred: True if there was no document and the values are those seen among the runs.
    """

    axes: Mapping[str, tuple[Scalar, ...]]
    stages: Mapping[str, Mapping[str, Any]]
    parameters: Mapping[str, tuple[Scalar, ...]]
    inferred: bool


def parse_document(document: Mapping[str, Any], seen: Iterable[str]) -> StudyDocument:
    """The study document as typed data.

    Args:
        document: The document.
        seen: Stages that the runs show, so that a stage unknown to the schema is told from the
            document's other sections.

    Raises:
        UserError: If the document is not of the public form.
    """
    axes = document.get("axes")
    if not isinstance(axes, Mapping) or not axes:
        raise UserError("the study document has no axes", where="experiment tag rfray.study")
    try:
        typed_axes = {axis: _values(axis, values) for axis, values in axes.items()}
        stages = {
            stage: document[stage]
            for stage in dict.fromkeys((*schema.STAGES, *sorted(seen)))
            if isinstance(document.get(stage), Mapping)
        }
        parameters = {
            stage: _values(own, values)
            for stage, own in schema.OWN_PARAMETER.items()
            if stage in stages and (values := _planned_parameter(stages, stage, own)) is not None
        }
    except ValueError as error:
        raise UserError(
            f"the study document has an impossible value: {error}",
            where="experiment tag rfray.study",
        ) from error
    return StudyDocument(typed_axes, stages, parameters, inferred=False)


def infer_document(records: Iterable[RunRecord]) -> StudyDocument:
    """The study that the runs themselves show: every value seen, on every axis."""
    runs = [record for record in records if schema.STAGE_TAG in record.tags]
    seen = {record.tags[schema.STAGE_TAG] for record in runs}
    axes = (*schema.STANDARD_AXES, schema.SEED, *_swept_besides(runs))
    return StudyDocument(
        axes={axis: values for axis in axes if (values := _seen_values(axis, runs))},
        stages={stage: {} for stage in (*schema.STAGES, *sorted(seen)) if stage in seen},
        parameters={},
        inferred=True,
    )


def identity_axes(document: StudyDocument, records: Iterable[RunRecord]) -> tuple[str, ...]:
    """The axes that tell rows apart: the standard ones that occur, then the study's others."""
    recorded: set[str] = set()
    for record in records:
        recorded.update(record.params)
    known = {*document.axes, *recorded}
    standard = [axis for axis in schema.STANDARD_AXES if axis in known]
    others = [axis for axis in document.axes if axis not in {*standard, schema.SEED}]
    return (*standard, *others)


def _values(name: str, values: object) -> tuple[Scalar, ...]:
    listed = values if isinstance(values, list | tuple) else [values]
    return tuple(dict.fromkeys(typed(name, _text(value)) for value in listed))


def _text(value: object) -> str:
    return json.dumps(value) if isinstance(value, list | dict) else str(value)


def _planned_parameter(stages: Mapping[str, Any], stage: str, own: str) -> object | None:
    places = [stage, *([schema.NEEDS[stage]] if stage in schema.NEEDS else [])]
    for place in places:
        settings = stages.get(place, {})
        for key in (f"{own}s", own):
            if key in settings:
                return settings[key]  # type: ignore[no-any-return]
    return None


def _seen_values(axis: str, runs: Iterable[RunRecord]) -> tuple[Scalar, ...]:
    found: set[Scalar] = set()
    for record in runs:
        if axis in record.params and axis not in _not_applying(record):
            try:
                found.add(typed(axis, record.params[axis]))
            except ValueError:
                continue  # the frame lists such a run as unreadable, with the value
    return tuple(sorted(found, key=lambda value: (isinstance(value, str), value)))


def _not_applying(record: RunRecord) -> frozenset[str]:
    return schema.AXES_NOT_APPLYING.get(record.tags[schema.STAGE_TAG], frozenset())


def _swept_besides(runs: Iterable[RunRecord]) -> list[str]:
    """Parameters that take several values among the training runs of one and the same cell."""
    standard = (*schema.STANDARD_AXES, schema.SEED)
    seen: dict[tuple[str | None, ...], dict[str, str]] = {}
    swept: set[str] = set()
    for record in runs:
        if record.tags[schema.STAGE_TAG] == "train" and record.status == "FINISHED":
            cell = tuple(record.params.get(axis) for axis in standard)
            first = seen.setdefault(cell, record.params)
            swept |= {name for name in first if record.params.get(name, first[name]) != first[name]}
    return sorted(swept - {*standard, "receptive_field"})
