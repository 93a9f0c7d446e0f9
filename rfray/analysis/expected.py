"""What a study planned, and what of it is not there yet, by name and with the reason."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING

from rfray.analysis import schema
from rfray.analysis.frame import StudyFrame
from rfray.analysis.screening import Kind, covered_seeds
from rfray.analysis.slots import Identity, Slot, applying
from rfray.analysis.values import Scalar

if TYPE_CHECKING:
    from rfray.tracking import RunRecord

_STATE: Mapping[Kind, str] = {
    "failed": "failed",
    "interrupted": "was interrupted",
    "running": "is still running",
    "superseded": "is to be computed again",
    "stale": "is stale",
    "duplicate": "is a duplicate",
}


@dataclass(frozen=True)
class Gap:
    """Something planned that is not there.

    Attributes:
        what: Its name, such as `vgg19_rf digits k=3 seed 1: finetune 0.9`.
        reason: Why it is not there, such as `failed: out of memory` or `not run yet`.
        run_id: The run that should have given it; None if there is none.
    """

    what: str
    reason: str
    run_id: str | None = None

    def __str__(self) -> str:
        return f"{self.what}: {self.reason}"


@dataclass(frozen=True)
class Expected:
    """The slots of a study.

    Attributes:
        planned: Every slot of the study document, in the study's order.
        beyond: Slots that a finished run fills although the document does not plan them: they
            count in the tables, and the summary names them.
    """

    planned: tuple[Slot, ...]
    beyond: tuple[Slot, ...]

    @property
    def slots(self) -> tuple[Slot, ...]:
        """Planned or filled."""
        return (*self.planned, *self.beyond)


@dataclass(frozen=True)
class Progress:
    """Of one stage: how many slots are planned, done, running, failed, interrupted, not run."""

    stage: str
    planned: int
    done: int
    running: int
    failed: int
    interrupted: int
    other: int


def expected_slots(frame: StudyFrame) -> Expected:
    """The slots that the study document plans, or the product of what was seen without one."""
    planned = [slot for stage in frame.document.stages for slot in _planned(frame, stage)]
    known = set(planned)
    return Expected(tuple(planned), tuple(slot for slot in frame.kept if slot not in known))


def missing(frame: StudyFrame, expected: Expected) -> list[Gap]:
    """A gap for each planned slot that no run fills, and for each group of seeds in doubt."""
    gaps = [
        gap_at(slot, absence(slot, frame), frame)
        for slot in expected.planned
        if slot not in frame.kept
    ]
    return gaps + _doubtful_groups(frame)


def gap_at(slot: Slot, reason: str, frame: StudyFrame) -> Gap:
    """The gap at a slot, with the run that fills it badly, or the latest that failed to."""
    attempt = frame.attempts.get(slot)
    record = frame.kept.get(slot) or (attempt.record if attempt else None)
    return Gap(frame.names.slot(slot), reason, record.run_id if record else None)


def absence(slot: Slot, frame: StudyFrame) -> str:
    """Why no run fills `slot`."""
    attempts = frame.attempts
    if slot in attempts:
        return attempts[slot].reason
    needed = schema.NEEDS.get(slot.stage)
    while needed is not None:
        source = slot.on(needed)
        if source in attempts and source not in frame.kept:
            return f"not run: its {source.stage_label()} {_STATE[attempts[source].kind]}"
        needed = schema.NEEDS.get(needed)
    return "not run yet"


def progress(frame: StudyFrame, expected: Expected) -> list[Progress]:
    """How far each planned stage is."""
    return [
        _progress([slot for slot in expected.planned if slot.stage == stage], frame)
        for stage in frame.document.stages
        if any(slot.stage == stage for slot in expected.planned)
    ]


def _progress(slots: list[Slot], frame: StudyFrame) -> Progress:
    done = [slot for slot in slots if slot in frame.kept]
    kinds = [frame.attempts[s].kind for s in slots if s not in frame.kept and s in frame.attempts]
    running, failed = kinds.count("running"), kinds.count("failed")
    interrupted = kinds.count("interrupted")
    other = len(slots) - len(done) - running - failed - interrupted
    return Progress(slots[0].stage, len(slots), len(done), running, failed, interrupted, other)


def _planned(frame: StudyFrame, stage: str) -> Iterable[Slot]:
    seen = _seen(frame)
    parameters = _parameters(frame, stage, seen)
    for identity, seeds in _seeds_by_identity(frame, stage, seen).items():
        planned: tuple[int | None, ...] = tuple(sorted(seeds)) or (None,)
        if schema.SEED in _scope(stage):
            if stage in schema.OVER_SEEDS and len(seeds) < 2:
                continue
            planned = (None,)
        for seed, parameter in product(planned, parameters):
            yield Slot(stage, identity, seed, parameter)


def _seeds_by_identity(
    frame: StudyFrame, stage: str, seen: list[Slot]
) -> dict[Identity, dict[int, None]]:
    """The cells that the study plans for a stage, with their seeds."""
    alike = [slot for slot in seen if _scope(slot.stage) == _scope(stage)]
    axes = _stage_axes(frame, stage, alike)
    unplanned = [axis for axis in axes if axis not in frame.document.axes]
    choices = [_seen_choices(axis, alike) for axis in unplanned]
    found: dict[Identity, dict[int, None]] = {}
    for point, values in product(frame.document.points, product(*choices)):
        whole = {**point, **dict(zip(unplanned, values, strict=True))}
        if frame.document.leaves_out(stage, whole):
            continue
        seeds = found.setdefault(tuple((axis, whole[axis]) for axis in axes), {})
        if schema.SEED in whole:
            seeds[int(whole[schema.SEED])] = None
    return found


def _seen(frame: StudyFrame) -> list[Slot]:
    return [*frame.kept, *(entry.slot for entry in frame.dropped if entry.slot is not None)]


def _scope(stage: str) -> frozenset[str]:
    return schema.AXES_NOT_APPLYING.get(stage, frozenset())


def _stage_axes(frame: StudyFrame, stage: str, alike: list[Slot]) -> list[str]:
    """The axes that a stage's runs have: those that runs of its scope carry, if there are any."""
    applying = [axis for axis in frame.axes if schema.applies(axis, stage)]
    carried = {axis for slot in alike for axis, _ in slot.identity}
    return [axis for axis in applying if not alike or axis in carried or "." in axis]


def _seen_choices(axis: str, alike: list[Slot]) -> tuple[Scalar, ...]:
    return tuple(dict.fromkeys(value for s in alike for name, value in s.identity if name == axis))


def _parameters(frame: StudyFrame, stage: str, seen: list[Slot]) -> tuple[Scalar | None, ...]:
    if stage not in schema.OWN_PARAMETER:
        return (None,)
    if stage in frame.document.parameters:
        return frame.document.parameters[stage]
    return tuple(dict.fromkeys(slot.parameter for slot in seen if slot.stage == stage))


def _doubtful_groups(frame: StudyFrame) -> list[Gap]:
    """Runs over a group of seeds that do not cover the study's seeds as they are now trained."""
    gaps = []
    for slot, record in frame.kept.items():
        covered = covered_seeds(record)
        if slot.stage not in schema.OVER_SEEDS or covered is None:
            continue
        planned = frame.document.seeds_at(slot.identity)
        if covered != planned:
            reason = f"covers the seeds {list(covered)}, the study has {list(planned)}"
            gaps.append(gap_at(slot, reason, frame))
        retrained = [s for s in covered if _trained_after(record, slot.identity, s, frame)]
        if retrained:
            reason = (
                f"is older than the training of seed {retrained[0]}, so maybe of other networks"
            )
            gaps.append(gap_at(slot, reason, frame))
    return gaps


def _trained_after(record: RunRecord, identity: Identity, seed: int, frame: StudyFrame) -> bool:
    training = frame.kept.get(Slot("train", applying(identity, "train"), seed))
    ended = record.end_time or record.start_time
    return training is not None and training.start_time > ended
