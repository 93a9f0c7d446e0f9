"""Files of a study that nothing needs any more: found, and dropped once somebody has said yes."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from rich.console import RenderableType
from rich.table import Table

from rfray.artifacts import local_path
from rfray.cleaning import Disposable, Kind, droppable_checkpoints, droppable_weights
from rfray.engine.records import DROPPED_TAG
from rfray.engine.standing import KEY_TAG, left_over, standing
from rfray.errors import UserError
from rfray.lease import folder_lock, leased
from rfray.naming import TRAIN
from rfray.plan import Plan
from rfray.storage import Storage
from rfray.tracking import Ledger, LedgerWriter, RunRecord, check_store, store_answers
from rfray.training.weight_files import WEIGHT_FILES

MEGABYTE = 1e6

_PARENT_TAG = "mlflow.parentRunId"


@dataclass(frozen=True)
class Cleaning:
    """A study that no sweep works on for as long as this is held.

    Attributes:
        plan: The study as it is planned now.
        storage: Where it lies.
        ledger: Where its runs are written.
        renew: Says to drivers that the study is held; UserError if one has taken over.
    """

    plan: Plan
    storage: Storage
    ledger: LedgerWriter
    renew: Callable[[], None]


@contextmanager
def cleaning(plan: Plan, storage: Storage) -> Iterator[Cleaning]:
    """Hold a study for cleaning.

    Raises:
        UserError: It has no results there, a sweep works on it, its storage or its database cannot
            be written, or the tracking store does not answer.
    """
    study = plan.study.name
    check_store(storage.tracking_uri)
    if study not in Ledger(storage.tracking_uri).studies():
        raise UserError(
            f"the study '{study}' has no results here",
            where=storage.tracking_uri,
            do="name another sweep, or another folder with --storage DIR",
        )
    storage.make()
    _refuse_read_only(storage)
    with ExitStack() as held:
        claim = held.enter_context(folder_lock(storage.root, study))
        with store_answers(storage.tracking_uri):
            ledger = LedgerWriter(storage.tracking_uri, study)
            renew = _nothing if storage.embedded else held.enter_context(leased(ledger, claim))
            yield Cleaning(plan, storage, ledger, renew)


def disposable(held: Cleaning, *, left_over_too: bool) -> list[Disposable]:
    """What nothing needs any more, as it lies there now.

    Args:
        held: The study.
        left_over_too: Whether weights of runs that the plan no longer names are among it.
    """
    plan, study = held.plan, held.plan.study
    runs = list(held.ledger.runs(study.name))
    stands, left = standing(plan, runs), left_over(plan, runs)
    weights = {key: _weights(run, "weights") for key, run in stands.finished.items()}
    going = _of_left_over(left)
    bases = set() if left_over_too else _bases(left, {one.run_id for one in going}, runs)
    keys = droppable_weights(
        plan,
        stands.finished,
        {key for key, one in weights.items() if one.paths},
        study.keep,
        bases,
    )
    found = [weights[key] for key in keys]
    ended = {*stands.finished, *(run.tags[KEY_TAG] for run in left)}
    return found + (going if left_over_too else []) + _checkpoints(held, runs, ended)


def drop(held: Cleaning, chosen: Iterable[Disposable]) -> None:
    """Delete files; of a run, only once it says which."""
    for one in chosen:
        held.renew()
        if one.run_id:
            names = " ".join(path.name for path in one.paths)
            held.ledger.log(one.run_id, {}, [], {DROPPED_TAG: names})
            for path in one.paths:
                path.unlink(missing_ok=True)
        else:
            for path in one.paths:
                shutil.rmtree(path, ignore_errors=True)


def cleaning_text(found: Iterable[Disposable]) -> RenderableType:
    """The list as a table: what of which stage, of how many runs, and its size."""
    counts: Counter[tuple[str, str]] = Counter()
    sizes: Counter[tuple[str, str]] = Counter()
    for one in found:
        counts[one.kind, one.stage] += 1
        sizes[one.kind, one.stage] += one.bytes
    table = Table(box=None, pad_edge=False)
    table.add_column("what")
    table.add_column("stage")
    for name in ("runs", "MB"):
        table.add_column(name, justify="right")
    for (kind, stage), count in counts.items():
        table.add_row(kind, stage, str(count), _megabytes(sizes[kind, stage]))
    if len(counts) > 1:
        table.add_row("together", "", str(counts.total()), _megabytes(sizes.total()))
    return table


def _megabytes(size: int) -> str:
    return f"{size / MEGABYTE:,.1f}"


def _refuse_read_only(storage: Storage) -> None:
    if storage.embedded and not os.access(storage.database, os.W_OK):
        raise UserError(
            "the database cannot be written, and a run has to say what was dropped of it",
            where=str(storage.database),
            do="make it writable, or clean where it is",
        )


def _weights(run: RunRecord, kind: Kind) -> Disposable:
    """The weights that a run holds, maybe none.

    Raises:
        UserError: They lie behind a tracking server, or in a folder that cannot be written.
    """
    folder = local_path(run.artifact_uri)
    stage = run.tags.get("rfray.stage", "")
    if folder is None:
        raise UserError(
            "the weights lie behind the tracking server, which deletes nothing for a client",
            where=run.artifact_uri,
            do="clean on the machine that holds them",
        )
    paths = tuple(folder / name for name in WEIGHT_FILES if (folder / name).is_file())
    if paths and not os.access(folder, os.W_OK):
        raise UserError("the artifacts cannot be deleted", where=str(folder), do="make it writable")
    return Disposable(kind, run.name, stage, run.run_id, paths, _size(paths))


def _of_left_over(left: Iterable[RunRecord]) -> list[Disposable]:
    found = (_weights(run, "weights left over") for run in left)
    return [one for one in found if one.paths]


def _bases(
    left: Iterable[RunRecord], holding: Collection[str], runs: Iterable[RunRecord]
) -> set[str]:
    """Keys of the training runs from which runs that are left over tell what changed."""
    parents = {run.tags.get(_PARENT_TAG, "") for run in left if run.run_id in holding}
    return {
        run.tags[KEY_TAG]
        for run in runs
        if run.run_id in parents and run.tags.get("rfray.stage") == TRAIN and KEY_TAG in run.tags
    }


def _checkpoints(
    held: Cleaning, runs: Iterable[RunRecord], ended: Collection[str]
) -> list[Disposable]:
    """Checkpoints that no study of the store goes on with: equal work has one checkpoint."""
    folder = held.storage.checkpoints
    found = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    keys = droppable_checkpoints(found, ended, set())
    if not keys:
        return []
    unfinished = {
        run.tags.get(KEY_TAG, "")
        for study in held.ledger.studies()
        for run in held.ledger.runs(study)
        if run.status != "FINISHED"
    }
    known = {run.tags[KEY_TAG]: run for run in runs if KEY_TAG in run.tags}
    return [
        Disposable(
            "checkpoint",
            known[key].name,
            known[key].tags.get("rfray.stage", ""),
            "",
            (folder / key,),
            _size(path for path in (folder / key).rglob("*") if path.is_file()),
        )
        for key in droppable_checkpoints(keys, ended, unfinished)
    ]


def _size(paths: Iterable[Path]) -> int:
    return sum(path.stat().st_size for path in paths)


def _nothing() -> None:
    """There is no lease to renew."""
