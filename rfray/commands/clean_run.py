"""`rfray clean`: find the files of a study that nothing needs any more, and delete them."""

import os
import shutil
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rich.console import RenderableType

from rfray import tracking
from rfray.commands.cleaning import Disposable, Kind, droppable_checkpoints, droppable_weights
from rfray.driver.lease import study_held
from rfray.engine.standing import left_over, standing
from rfray.errors import UserError
from rfray.files.artifacts import local_path
from rfray.plan import Plan
from rfray.storage import Storage
from rfray.study.naming import TRAIN
from rfray.terminal.consoles import plain_table
from rfray.training.weight_files import WEIGHT_FILES

MEGABYTE = 1e6


@dataclass(frozen=True)
class Cleaning:
    """A study that is held for cleaning: no sweep works on it during this time.

    Attributes:
        renew: Renews the lease; UserError if a driver has taken over.
    """

    plan: Plan
    storage: Storage
    ledger: tracking.LedgerWriter
    renew: Callable[[], None]


@contextmanager
def cleaning(plan: Plan, storage: Storage) -> Iterator[Cleaning]:
    """Hold a study for cleaning.

    Raises:
        UserError: The study has no results there, a sweep works on it, its storage or its database
            cannot be written, or the tracking store does not answer.
    """
    study = plan.study.name
    tracking.check_store(storage.tracking_uri)
    if study not in tracking.Ledger(storage.tracking_uri).studies():
        raise UserError(
            f"the study '{study}' has no results here",
            where=storage.tracking_uri,
            do="name another sweep, or another folder with --storage DIR",
        )
    storage.make()
    _refuse_read_only(storage)
    with study_held(study, storage) as held, tracking.store_written(storage.tracking_uri):
        yield Cleaning(plan, storage, held.ledger, held.renew)


def disposable(held: Cleaning, *, left_over_too: bool) -> list[Disposable]:
    """The files that nothing needs any more.

    Args:
        held: The study.
        left_over_too: Whether to include weights of runs that the plan no longer names.
    """
    plan, study = held.plan, held.plan.study
    runs = list(held.ledger.runs(study.name))
    stands, left = standing(plan, runs), left_over(plan, runs)
    lying = {key: _weights(run, "weights") for key, run in stands.finished.items()}
    holding = {key for key, weights in lying.items() if weights.paths}
    going = _holding(left, "weights left over")
    bases = set() if left_over_too else _bases(left, {one.run_id for one in going}, runs)
    of_plan = {key for key, run in stands.finished.items() if run.run_id in bases}
    keys = droppable_weights(plan, stands.finished, holding, study.keep, of_plan)
    superseded = [
        run for run in runs if run.tags.get(tracking.SUPERSEDED_TAG) and run.run_id not in bases
    ]
    ended = {*stands.finished, *(run.tags[tracking.KEY_TAG] for run in left)}
    return [
        *(lying[key] for key in keys),
        *_holding(superseded, "weights superseded"),
        *(going if left_over_too else []),
        *_checkpoints(held, runs, ended),
    ]


def drop(held: Cleaning, chosen: Iterable[Disposable]) -> None:
    """Delete files. Before the files of a run are deleted, a tag of the run lists them."""
    for one in chosen:
        held.renew()
        if one.run_id:
            held.ledger.log(one.run_id, {}, [], tracking.withheld_tag(one.withheld))
            for path in one.paths:
                path.unlink(missing_ok=True)
        else:
            for path in one.paths:
                shutil.rmtree(path, ignore_errors=True)


def cleaning_text(found: Iterable[Disposable]) -> RenderableType:
    """The list as a table: kind of files, stage, number of runs, and size."""
    counts: Counter[tuple[str, str]] = Counter()
    sizes: Counter[tuple[str, str]] = Counter()
    for one in found:
        counts[one.kind, one.stage] += 1
        sizes[one.kind, one.stage] += one.bytes
    table = plain_table("what", "stage", ">runs", ">MB")
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
            "the database cannot be written, and it must record which files are deleted",
            where=str(storage.database),
            do="make it writable, or clean on a machine where it is",
        )


def _weights(run: tracking.RunRecord, kind: Kind) -> Disposable:
    """The weight files of a run, if it has any.

    Raises:
        UserError: They are on a tracking server, or in a folder that cannot be written.
    """
    folder = local_path(run.artifact_uri)
    if folder is None:
        raise UserError(
            "the weights are on the tracking server, which does not delete files for a client",
            where=run.artifact_uri,
            do="clean on the machine that has them",
        )
    paths = tuple(folder / name for name in WEIGHT_FILES if (folder / name).is_file())
    if paths and not os.access(folder, os.W_OK):
        raise UserError("the artifacts cannot be deleted", where=str(folder), do="make it writable")
    withheld = tracking.withheld_of(run) | {path.name for path in paths}
    stage = run.tags.get(tracking.STAGE_TAG, "")
    return Disposable(kind, run.name, stage, run.run_id, paths, _freed(paths), frozenset(withheld))


def _holding(runs: Iterable[tracking.RunRecord], kind: Kind) -> list[Disposable]:
    """The weight files of runs, without runs that have none."""
    found = (_weights(run, kind) for run in runs)
    return [one for one in found if one.paths]


def _bases(
    left: Iterable[tracking.RunRecord], holding: Collection[str], runs: Iterable[tracking.RunRecord]
) -> set[str]:
    """Identifiers of the training runs whose weights left-over runs are stored as changes of."""
    parents = {run.tags.get(tracking.PARENT_TAG, "") for run in left if run.run_id in holding}
    return {
        run.run_id
        for run in runs
        if run.run_id in parents and run.tags.get(tracking.STAGE_TAG) == TRAIN
    }


def _checkpoints(
    held: Cleaning, runs: Iterable[tracking.RunRecord], ended: Collection[str]
) -> list[Disposable]:
    """Checkpoints that no study of the store needs. Studies share the checkpoint of a key."""
    folder = held.storage.checkpoints
    found = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    keys = droppable_checkpoints(found, ended, set())
    if not keys:
        return []
    unfinished = {
        run.tags.get(tracking.KEY_TAG, "")
        for study in held.ledger.studies()
        for run in held.ledger.runs(study)
        if run.status != "FINISHED"
    }
    known = {run.tags[tracking.KEY_TAG]: run for run in runs if tracking.KEY_TAG in run.tags}
    return [
        Disposable(
            "checkpoint",
            known[key].name,
            known[key].tags.get(tracking.STAGE_TAG, ""),
            "",
            (folder / key,),
            _freed(path for path in (folder / key).rglob("*") if path.is_file()),
        )
        for key in droppable_checkpoints(keys, ended, unfinished)
    ]


def _freed(paths: Iterable[Path]) -> int:
    """Bytes that deleting frees: a file with another hard link, in another study, frees none."""
    found = (path.stat() for path in paths)
    return sum(one.st_size for one in found if one.st_nlink == 1)
