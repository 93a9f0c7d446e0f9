"""What a study planned, and which results are missing, by name and with the reason."""

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
    """A planned result that is missing.

    Attributes:
        what: Its name, such as `vgg19_rf digits k=3 seed 1: finetune 0.9`.
        reason: Why it is missing, such as `failed: out of memory` or `not run yet`.
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
        beyond: Slots that a finished run fills although the document does not plan them. They
            count in the tables, and the summary names them.
    """

    planned: tuple[Slot, ...]
    beyond: tuple[Slot, ...]

    @property
    def slots(self) -> tuple[Slot, ...]:
        """All slots, planned or filled."""
        return (*self.planned, *self.beyond)


@dataclass(frozen=True)
class Progress:
    """How many slots of one stage are planned, done, running, failed, interrupted, not run."""

    stage: str
    planned: int
    done: int
    running: int
    failed: int
    interrupted: int
    other: int


def expected_slots(frame: StudyFrame) -> Expected:
    """The slots of the study document; without a document, all combinations of the runs' values."""
    planned = [slot for stage in frame.document.stages for slot in _planned(frame, stage)]
    known = set(planned)
    return Expected(tuple(planned), tuple(slot for slot in frame.kept if slot not in known))


def missing(frame: StudyFrame, expected: Expected) -> list[Gap]:
    """A gap for each planned slot without a run, and for each run over seeds that may be old."""
    gaps = [
        gap_at(slot, absence(slot, frame), frame)
        for slot in expected.planned
        if slot not in frame.kept
    ]
    return gaps + _doubtful_groups(frame)


def gap_at(slot: Slot, reason: str, frame: StudyFrame) -> Gap:
    """The gap at a slot, with the run that fills it, or else the latest run that does not count."""
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
    seen = [*frame.kept, *frame.attempted]
    parameters = _parameters(frame, stage, seen)
    for identity, seeds in _seeds_by_identity(frame, stage, seen).items():
        planned: tuple[int | None, ...] = tuple(sorted(seeds)) or (None,)
        if schema.SEED in schema.not_applying(stage):
            if stage in schema.OVER_SEEDS and len(seeds) < 2:
                continue
            planned = (None,)
        for seed, parameter in product(planned, parameters):
            yield Slot(stage, identity, seed, parameter)


def _seeds_by_identity(
    frame: StudyFrame, stage: str, seen: list[Slot]
) -> dict[Identity, dict[int, None]]:
    """The cells that the study plans for a stage, with their seeds."""
    scope = schema.not_applying(stage)
    alike = [slot for slot in seen if schema.not_applying(slot.stage) == scope]
    axes = _stage_axes(frame, stage, alike)
    unplanned = [axis for axis in axes if axis not in frame.document.axes]
    choices = [
        dict.fromkeys(value for slot in alike for name, value in slot.identity if name == axis)
        for axis in unplanned
    ]
    found: dict[Identity, dict[int, None]] = {}
    for point, values in product(frame.document.points, product(*choices)):
        whole = {**point, **dict(zip(unplanned, values, strict=True))}
        if frame.document.leaves_out(stage, whole):
            continue
        seeds = found.setdefault(tuple((axis, whole[axis]) for axis in axes), {})
        if schema.SEED in whole:
            seeds[int(whole[schema.SEED])] = None
    return found


def _stage_axes(frame: StudyFrame, stage: str, alike: list[Slot]) -> list[str]:
    """The axes of a stage's runs: those of runs that lack the same axes, if there are such runs."""
    applying = [axis for axis in frame.axes if schema.applies(axis, stage)]
    carried = {axis for slot in alike for axis, _ in slot.identity}
    return [axis for axis in applying if not alike or axis in carried or "." in axis]


def _parameters(frame: StudyFrame, stage: str, seen: list[Slot]) -> tuple[Scalar | None, ...]:
    if stage not in schema.OWN_PARAMETER:
        return (None,)
    if stage in frame.document.parameters:
        return frame.document.parameters[stage]
    return tuple(dict.fromkeys(slot.parameter for slot in seen if slot.stage == stage))


def _doubtful_groups(frame: StudyFrame) -> list[Gap]:
    """Runs over a group of seeds that do not cover the study's seeds, or their latest training."""
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
            reason = f"is older than the training of seed {retrained[0]}, so maybe outdated"
            gaps.append(gap_at(slot, reason, frame))
    return gaps


def _trained_after(record: RunRecord, identity: Identity, seed: int, frame: StudyFrame) -> bool:
    training = frame.kept.get(Slot("train", applying(identity, "train"), seed))
    ended = record.end_time or record.start_time
    return training is not None and training.start_time > ended
