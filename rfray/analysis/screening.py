"""Which runs count: one finished run for each slot; and the reason why each other run does not."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal

from rfray.analysis import schema
from rfray.analysis.document import StudyDocument
from rfray.analysis.slots import Identity, Slot
from rfray.analysis.values import Scalar, agree, seed_list, typed
from rfray.data.amount import images_held_out

if TYPE_CHECKING:
    from rfray.tracking import RunRecord

Kind = Literal[
    "failed", "interrupted", "running", "superseded", "duplicate", "stale", "unreadable", "foreign"
]
"""Why a run is left out. `superseded`: `rfray redo` asked for a new one. `foreign`: another program
made it in the same experiment."""


@dataclass(frozen=True)
class LeftOut:
    """A run that does not count, and why; its slot is None if its params do not say it."""

    record: RunRecord
    slot: Slot | None
    kind: Kind
    reason: str


def screen(
    records: Sequence[RunRecord], document: StudyDocument, axes: Sequence[str]
) -> tuple[dict[Slot, RunRecord], tuple[LeftOut, ...]]:
    """The runs that count, and those that do not.

    Keeps for each slot its latest finished run that was made with the study's settings.

    It leaves out runs that are superseded or not finished; whose params cannot be read; that were
    made with other settings than those of the study document, or from a training run that does not
    count (`stale`); and all but the latest finished run of a slot (`duplicate`).
    """
    by_id = {record.run_id: record for record in records}
    candidates, left_out = _candidates(records, document, axes, by_id)
    kept: dict[Slot, RunRecord] = {}
    # Searches, then training, then all else: whether a run counts depends on its parent run.
    for depth in range(3):
        dropped = {entry.record.run_id: entry for entry in left_out}
        standing: dict[Slot, list[RunRecord]] = {}
        here = {slot: runs for slot, runs in candidates.items() if _depth(slot.stage) == depth}
        for slot, record in ((s, r) for s, runs in here.items() for r in runs):
            reason = _lost_parent(_parent(record, by_id), dropped, kept)
            if reason is None:
                standing.setdefault(slot, []).append(record)
            else:
                left_out.append(LeftOut(record, slot, "stale", reason))
        found, superseded = _latest(standing, document)
        kept |= found
        left_out += superseded
    return kept, tuple(left_out)


def _depth(stage: str) -> int:
    """The number of ancestors that a run of a stage may have."""
    return {"search": 0, "train": 1}.get(stage, 2)


def _parent(record: RunRecord, by_id: Mapping[str, RunRecord]) -> RunRecord | None:
    return by_id.get(record.tags.get(schema.PARENT_TAG, ""))


def read_slot(record: RunRecord, axes: Iterable[str], by_id: Mapping[str, RunRecord]) -> Slot:
    """The slot that a run fills, from its params and, for axes that it does not have, its parent's.

    Raises:
        ValueError: If a param that the schema requires is missing or does not have its type.
    """
    stage = record.tags[schema.STAGE_TAG]
    parent = _parent(record, by_id)
    params = {**(parent.params if parent else {}), **record.params}
    not_applying = schema.not_applying(stage)
    needed = {"arch", "kernel_size", "dataset", schema.SEED} - not_applying
    absent = sorted(needed - set(params)) if stage in schema.STAGES else []
    own = schema.OWN_PARAMETER.get(stage)
    chosen = None if own is None else record.params.get(own, schema.USUAL.get(stage))
    if own is not None and chosen is None:
        absent.append(own)
    if absent:
        raise ValueError(f"no param {', '.join(absent)}")
    seed = params.get(schema.SEED) if schema.SEED not in not_applying else None
    return Slot(
        stage=stage,
        identity=tuple(
            (axis, _typed(axis, text))
            for axis in axes
            if axis not in not_applying and (text := _chosen(axis, record, parent)) is not None
        ),
        seed=None if seed is None else int(_typed(schema.SEED, seed)),
        parameter=None if own is None or chosen is None else _typed(own, chosen),
    )


def _chosen(axis: str, record: RunRecord, parent: RunRecord | None) -> str | None:
    """The value of an axis in a run, or else in its parent; None if neither has it.

    A run made before a setting of its stage became an axis has it under its name without the stage.
    """
    owner, dot, leaf = axis.partition(".")
    for run in (record, parent):
        if run is not None and axis in run.params:
            return run.params[axis]
        if run is not None and dot and run.tags.get(schema.STAGE_TAG) == owner:
            return run.params.get(leaf)
    return None


def _candidates(
    records: Sequence[RunRecord],
    document: StudyDocument,
    axes: Sequence[str],
    by_id: Mapping[str, RunRecord],
) -> tuple[dict[Slot, list[RunRecord]], list[LeftOut]]:
    candidates: dict[Slot, list[RunRecord]] = {}
    left_out: list[LeftOut] = []
    for record in records:
        if schema.STAGE_TAG not in record.tags:
            left_out.append(LeftOut(record, None, "foreign", f"no tag {schema.STAGE_TAG}"))
            continue
        try:
            # One slot, or one for each knob that gives the run's network.
            slots = [
                read_slot(replace(record, params={**record.params, **choice}), axes, by_id)
                for choice in document.asked_of(record.params) or [{}]
            ]
        except ValueError as error:
            left_out.append(LeftOut(record, None, "unreadable", str(error)))
            continue
        verdict = (
            _redone(record)
            or _unfinished(record)
            or _other_settings(record, document)
            or _other_validation(record, document)
        )
        for slot in slots:
            if verdict is None:
                candidates.setdefault(slot, []).append(record)
            else:
                left_out.append(LeftOut(record, slot, *verdict))
    return candidates, left_out


def _latest(
    candidates: Mapping[Slot, Sequence[RunRecord]], document: StudyDocument
) -> tuple[dict[Slot, RunRecord], list[LeftOut]]:
    kept = {
        slot: max(runs, key=lambda record: _rank(record, document, slot.identity))
        for slot, runs in candidates.items()
    }
    superseded = [
        LeftOut(record, slot, "duplicate", _superseded(record, kept[slot]))
        for slot, runs in candidates.items()
        for record in runs
        if record is not kept[slot]
    ]
    return kept, superseded


def moment(milliseconds: int) -> str:
    """A time of MLflow's, in milliseconds since 1970, as text, in UTC."""
    return f"{datetime.fromtimestamp(milliseconds / 1000, UTC):%Y-%m-%d %H:%M} UTC"


def _typed(name: str, text: str) -> Scalar:
    try:
        return typed(name, text)
    except ValueError:
        raise ValueError(f"param {name} is '{text}'") from None


def _redone(record: RunRecord) -> tuple[Kind, str] | None:
    why = record.tags.get(schema.SUPERSEDED_TAG, "")
    return ("superseded", f"superseded: {why}") if why else None


def _unfinished(record: RunRecord) -> tuple[Kind, str] | None:
    error = record.tags.get(schema.ERROR_TAG, "").strip().split("\n")[0]
    match record.status:
        case "FINISHED":
            return None
        case "FAILED":
            return "failed", f"failed: {error or 'no reason recorded'}"
        case "KILLED":
            return "interrupted", "interrupted" if error in ("", "interrupted") else (
                f"interrupted: {error}"
            )
        case _:
            return "running", f"running since {moment(record.start_time)}"


def _other_settings(record: RunRecord, document: StudyDocument) -> tuple[Kind, str] | None:
    stage = record.tags[schema.STAGE_TAG]
    planned = document.stages.get(stage, {})
    # The stage's own settings that vary are part of the slot.
    varying = {axis.removeprefix(f"{stage}.") for axis in document.axes}
    passed_over = {*varying, schema.OWN_PARAMETER.get(stage, "")}
    differences = [
        f"{name}={record.params[name]}, the study has {planned[name]}"
        for name in planned
        if name in record.params
        and name not in passed_over
        and not agree(record.params[name], planned[name])
    ]
    return ("stale", f"made with {'; '.join(differences)}") if differences else None


def _other_validation(record: RunRecord, document: StudyDocument) -> tuple[Kind, str] | None:
    """The verdict on a run whose validation split is not that of the study; else None."""
    if document.inferred or "dataset" not in record.params:
        return None
    planned = document.validation
    try:
        validated, trained = (int(record.params.get(name, 0)) for name in schema.HELD_OUT)
    except ValueError:
        return "unreadable", f"the params {' and '.join(schema.HELD_OUT)} are not numbers"
    wanted = 0 if planned is None else images_held_out(planned, validated + trained)
    if validated == wanted and (planned is None) == (validated == 0):
        return None
    wanted_text = "none" if planned is None else planned
    return "stale", f"made with {validated} validation images, the study has {wanted_text}"


def _lost_parent(
    parent: RunRecord | None, dropped: Mapping[str, LeftOut], kept: Mapping[Slot, RunRecord]
) -> str | None:
    if parent is None or parent.run_id not in dropped:
        return None
    entry = dropped[parent.run_id]
    counting = kept.get(entry.slot) if entry.slot else None
    if counting is None:
        # A stage may be finished before its training run is closed. A stale parent never counts.
        return f"its run {parent.name} is {entry.kind}" if entry.kind == "stale" else None
    key = parent.tags.get(schema.KEY_TAG)
    if key and key == counting.tags.get(schema.KEY_TAG):
        return None
    return f"its run {parent.name} is {entry.kind}, a later one with another key counts"


def _rank(
    record: RunRecord, document: StudyDocument, identity: Identity
) -> tuple[bool, int, int, str]:
    return (
        covered_seeds(record) in (None, document.seeds_at(identity)),
        record.end_time or record.start_time,
        record.start_time,
        record.run_id,
    )


def covered_seeds(record: RunRecord) -> tuple[int, ...] | None:
    """The seeds of a run over a group of seeds; None if it records none."""
    return seed_list(record.params.get("seeds", ""))


def _superseded(record: RunRecord, latest: RunRecord) -> str:
    names = sorted(set(record.params) & set(latest.params))
    differences = [
        f"{name} {record.params[name]}, not {latest.params[name]}"
        for name in names
        if record.params[name] != latest.params[name]
    ]
    settings = f"; it had {', '.join(differences)}" if differences else ""
    ended = moment(latest.end_time or latest.start_time)
    return f"a later run of the same stage counts (finished {ended}){settings}"
