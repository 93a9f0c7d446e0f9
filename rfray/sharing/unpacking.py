"""Writes an archive into a tracking store. A second import of the same archive changes nothing.

A run is recognised by its origin, and its work by its key. If the store has a run with one of them,
nothing is written. A run gets its stage and key only when it is complete, so a sweep or an analysis
never sees a part of a run.
"""

import codecs
import hashlib
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from rfray.driver.lease import Held, study_held
from rfray.errors import UserError
from rfray.sharing import contents
from rfray.sharing.contents import RunCopy
from rfray.sharing.vetting import Member, Vetted, members, refusals
from rfray.storage import Storage
from rfray.tracking import (
    DIGEST_TAG,
    KEY_TAG,
    NOTE_TAG,
    ORIGIN_TAG,
    PARENT_TAG,
    STAGE_TAG,
    SUPERSEDED_TAG,
    Measured,
    RunRecord,
    artifact_names,
    store_written,
    withheld_of,
    withheld_tag,
)

_MEASUREMENTS_AT_ONCE = 5000
_WHEN_COMPLETE = (KEY_TAG, STAGE_TAG)


@dataclass
class Imported:
    """The result of an import.

    Attributes:
        new: Number of runs that were written.
        completed: Number of runs that existed and got missing artifacts.
        there: Number of runs that existed.
        other_plan: Whether the store has another plan of the study, which stays.
    """

    new: int = 0
    completed: int = 0
    there: int = 0
    other_plan: bool = False


@dataclass
class _Writing:
    """A run that is being written.

    Attributes:
        copy: The run in the archive.
        folder: Its folder in the archive.
        run: The run in the store.
        logged: The measurements that the store has.
        wanted: Artifacts that the store lacks; None for all.
    """

    copy: RunCopy
    folder: str
    run: RunRecord
    logged: set[Measured] = field(default_factory=set)
    wanted: set[str] | None = None


def import_study(archive: Vetted, storage: Storage, told: Callable[[str], None]) -> Imported:
    """Write the runs of an archive that the store does not have; continues an earlier import.

    Args:
        archive: What to write.
        storage: Where to write it.
        told: Called with the name of each run that is written.

    Raises:
        UserError: The store cannot be written, is too small, or another process holds the study.
    """
    with study_held(archive.form.study, storage) as held, store_written(storage.tracking_uri):
        writer = _Importer(archive, storage, held, told)
        writer.refuse_too_small()
        with refusals(archive.path), members(archive.path) as found:
            for member in found:
                writer.take(member)
            writer.end()
        writer.describe()
        return writer.done


class _Importer:
    """Writes the files of an archive in their order."""

    def __init__(
        self, archive: Vetted, storage: Storage, held: Held, told: Callable[[str], None]
    ) -> None:
        self.done = Imported()
        self._archive = archive
        self._storage = storage
        self._ledger = held.ledger
        self._renew = held.renew
        self._told = told
        runs = list(self._ledger.runs(archive.form.study))
        self._by_origin = {contents.origin_of(run): run for run in runs}
        self._by_key = {run.tags[KEY_TAG]: run for run in runs if _counts(run)}
        self._ids = {origin: run.run_id for origin, run in self._by_origin.items()}
        self._open: _Writing | None = None

    def refuse_too_small(self) -> None:
        """UserError if the disk of the storage folder has not enough room."""
        if self._by_origin:
            return  # an earlier import has written some of them
        needed = self._archive.size
        free = shutil.disk_usage(self._storage.root).free
        if free < needed:
            raise UserError(
                f"the study takes {needed / 1e6:,.0f} MB, but only {free / 1e6:,.0f} MB are free",
                where=str(self._storage.root),
                do="make room, or choose another folder with --storage DIR",
            )

    def take(self, member: Member) -> None:
        """Write a file of the archive."""
        folder, _, name = member.name.rpartition("/")
        if name == contents.RUN and folder and f"/{contents.ARTIFACTS}/" not in member.name:
            self.end()
            self._renew()
            self._begin(RunCopy.model_validate_json(member.document()), folder)
        elif self._open is None or not member.name.startswith(f"{self._open.folder}/"):
            return
        elif member.name == f"{self._open.folder}/{contents.METRICS}":
            self._log(self._open, member)
        else:
            self._send(self._open, member)

    def end(self) -> None:
        """Complete the current run, if there is one."""
        writing, self._open = self._open, None
        if writing is None:
            return
        copy, run = writing.copy, writing.run
        withheld = withheld_tag(copy.withheld) if copy.withheld else {}
        if writing.wanted is not None:
            self._ledger.log(run.run_id, {}, [], withheld_tag(copy.withheld))
            self.done.completed += 1
            return
        last = {name: text for name, text in copy.tags.items() if name in _WHEN_COMPLETE}
        self._ledger.end_copy(run.run_id, copy.status, copy.end_time, {**last, **withheld})
        if copy.status == "FINISHED" and SUPERSEDED_TAG not in copy.tags and KEY_TAG in copy.tags:
            self._by_key[copy.tags[KEY_TAG]] = run
        self.done.new += 1

    def describe(self) -> None:
        """Record the plan, unless the store has a plan of the study already."""
        planned, study = self._archive.planned, self._archive.form.study
        here = self._ledger.study_document(study)
        if here is not None:
            self.done.other_plan = here != planned.document
        elif planned.document is not None:
            self._ledger.describe(planned.document)
            if planned.note:
                self._ledger.set_note(NOTE_TAG, planned.note)

    def _begin(self, copy: RunCopy, folder: str) -> None:
        known = self._by_origin.get(copy.origin)
        if known is not None and not _half_written(known):
            self._meet(copy, folder, known)
            return
        same = self._by_key.get(copy.tags.get(KEY_TAG, ""))
        if known is None and same is not None and SUPERSEDED_TAG not in copy.tags:
            self._ids[copy.origin] = same.run_id
            self.done.there += 1
            return
        self._told(copy.name)
        if known is None:
            known, logged = self._opened(copy), set()
        else:
            logged = set(self._ledger.measured(known))
        self._ids[copy.origin] = known.run_id
        self._open = _Writing(copy, folder, known, logged)
        missing = {n: v for n, v in copy.params.items() if n not in known.params}
        self._ledger.log(known.run_id, missing, [])

    def _meet(self, copy: RunCopy, folder: str, known: RunRecord) -> None:
        """Update a run that exists: its missing artifacts, and whether it is superseded."""
        if SUPERSEDED_TAG in copy.tags and SUPERSEDED_TAG not in known.tags:
            told = {SUPERSEDED_TAG: copy.tags[SUPERSEDED_TAG]}
            self._ledger.log(known.run_id, {}, [], told)
            self._by_key.pop(known.tags.get(KEY_TAG, ""), None)
        lacking = withheld_of(known) - set(copy.withheld)
        if lacking and known.tags.get(DIGEST_TAG) == copy.tags.get(DIGEST_TAG):
            self._told(copy.name)
            there = artifact_names(known.artifact_uri, self._ledger.tracking_uri)
            self._open = _Writing(copy, folder, known, wanted=lacking - set(there))
            return
        self.done.there += 1

    def _opened(self, copy: RunCopy) -> RunRecord:
        tags = {name: text for name, text in copy.tags.items() if name not in _WHEN_COMPLETE}
        tags[ORIGIN_TAG] = copy.origin
        parent = self._ids.get(copy.parent or "")
        if parent is not None:
            tags[PARENT_TAG] = parent
        return self._ledger.open_copy(copy.name, copy.start_time, tags)

    def _log(self, writing: _Writing, member: Member) -> None:
        if writing.wanted is not None:
            return
        lines = codecs.iterdecode(member.content, "utf-8")
        for piece in _pieces(contents.read_metrics(lines)):
            new = [entry for entry in piece if entry not in writing.logged]
            self._ledger.log(writing.run.run_id, {}, new)
            self._renew()

    def _send(self, writing: _Writing, member: Member) -> None:
        name = member.name.removeprefix(f"{writing.folder}/{contents.ARTIFACTS}/")
        if writing.wanted is not None and name not in writing.wanted:
            return
        above, _, leaf = name.rpartition("/")
        with tempfile.TemporaryDirectory(prefix=".import-", dir=self._storage.root) as scratch:
            path = Path(scratch) / leaf
            with path.open("xb") as file:
                shutil.copyfileobj(member.content, file)
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            if digest != self._archive.digests[member.name]:
                raise ValueError(f"{member.name} has changed since it was checked")
            self._ledger.send_artifact(writing.run.run_id, path, above)
        self._renew()


def _counts(run: RunRecord) -> bool:
    """Whether a sweep counts the run as done."""
    tags = run.tags
    return run.status == "FINISHED" and KEY_TAG in tags and SUPERSEDED_TAG not in tags


def _half_written(run: RunRecord) -> bool:
    """Whether an import of a run was interrupted."""
    return run.status == "RUNNING" and ORIGIN_TAG in run.tags and KEY_TAG not in run.tags


def _pieces(measured: Iterator[Measured]) -> Iterator[Sequence[Measured]]:
    while piece := list(islice(measured, _MEASUREMENTS_AT_ONCE)):
        yield piece
