"""Writes a study from its tracking store into an archive."""

import hashlib
import json
import tarfile
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import zstandard
from pydantic import TypeAdapter, ValidationError

from rfray import __version__
from rfray.errors import UserError
from rfray.files.artifacts import RESULT, digest_of
from rfray.files.atomic import partial_path, replace_with
from rfray.sharing import contents
from rfray.sharing.contents import Format, Planned
from rfray.sharing.seal import seal
from rfray.study import StudyName
from rfray.tracking import (
    DIGEST_TAG,
    NOTE_TAG,
    Ledger,
    RunRecord,
    artifact_at_hand,
    artifact_names,
    withheld_of,
)
from rfray.training.weight_files import WEIGHT_FILES

_IN_MEMORY = 8 << 20
_WEIGHTS_ENDING = ".safetensors"
_LEVEL = 3
"""Compression level; at any level weights hardly become smaller."""


@dataclass(frozen=True)
class Exported:
    """What was written into an archive.

    Attributes:
        runs: Number of runs in it.
        running: Number of runs left out because they had not ended.
        withheld: Number of artifacts left out.
        size: Size of the archive in bytes.
    """

    runs: int
    running: int
    withheld: int
    size: int


def export_study(
    ledger: Ledger, study: str, path: Path, keep: Callable[[str], bool], told: Callable[[str], None]
) -> Exported:
    """Write a study's ended runs into an archive, atomically.

    Args:
        ledger: Where the study's runs are.
        study: Its name.
        path: The archive.
        keep: Whether to include an artifact of that name.
        told: Called with the name of each run before it is read.

    Raises:
        UserError: There is no such study, the archive exists or cannot be written, or an artifact
            is not what its run recorded.
    """
    _refuse_name(study, ledger.tracking_uri)
    if path.exists():
        raise UserError("this file exists already", where=str(path), do="name another file")
    all_runs = {run.run_id: run for run in ledger.runs(study)}
    ended = {key: run for key, run in all_runs.items() if run.status not in _OPEN}
    partial = partial_path(path)
    withheld = 0
    try:
        with _packing(partial, study) as pack:
            _write_head(pack, ledger, study, ended)
            for run in contents.parents_first(ended):
                told(run.name)
                withheld += _write_run(pack, ledger, run, ended, keep)
            pack.text(contents.SUMS, [contents.sums_text(pack.digests)])
        seal(partial)
        replace_with(partial, path)
    except OSError as error:
        raise UserError(
            f"the archive cannot be written: {error.strerror or error}",
            where=str(path),
            do="make room, or name another place",
        ) from error
    finally:
        partial.unlink(missing_ok=True)
    return Exported(len(ended), len(all_runs) - len(ended), withheld, path.stat().st_size)


_OPEN = ("RUNNING", "SCHEDULED")


def all_artifacts(name: str) -> bool:
    """Whether to include an artifact in a full archive: yes."""
    del name
    return True


def without_weights(name: str) -> bool:
    """Whether to include an artifact in an archive without weights."""
    leaf = name.rpartition("/")[2]
    # A stage from outside may have other names for its weights.
    return leaf not in WEIGHT_FILES and not leaf.endswith(_WEIGHTS_ENDING)


class _Pack:
    """Adds files to an archive and collects their digests."""

    def __init__(self, tar: tarfile.TarFile, study: str) -> None:
        self._tar = tar
        self._study = study
        self.digests: dict[str, str] = {}

    def file(self, name: str, content: IO[bytes], size: int, milliseconds: int = 0) -> str:
        """Add a file; returns its SHA-256 (hexadecimal)."""
        member = tarfile.TarInfo(f"{self._study}/{name}")
        member.size, member.mtime, member.mode = size, milliseconds // 1000, 0o644
        counted = _Digested(content)
        self._tar.addfile(member, counted)
        self._tar.members.clear()  # type: ignore[attr-defined]
        self.digests[name] = counted.digest.hexdigest()
        return self.digests[name]

    def text(self, name: str, lines: Iterable[str], milliseconds: int = 0) -> None:
        """Add a text from its lines. It is collected first, because tar needs its size."""
        with tempfile.SpooledTemporaryFile(_IN_MEMORY) as spool:
            for line in lines:
                spool.write(line.encode())
            size = spool.tell()
            spool.seek(0)
            self.file(name, spool, size, milliseconds)


class _Digested:
    """A file whose digest is computed while it is read."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.digest = hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        piece = self._file.read(size)
        self.digest.update(piece)
        return piece


@contextmanager
def _packing(path: Path, study: str) -> Iterator[_Pack]:
    compressor = zstandard.ZstdCompressor(level=_LEVEL, write_checksum=True)
    with (
        path.open("wb") as file,
        compressor.stream_writer(file, closefd=False) as packed,
        tarfile.open(fileobj=packed, mode="w|", format=tarfile.PAX_FORMAT) as tar,
    ):
        yield _Pack(tar, study)


def _write_head(pack: _Pack, ledger: Ledger, study: str, runs: Mapping[str, RunRecord]) -> None:
    note = ledger.experiment_tags(study).get(NOTE_TAG, "")
    form = Format(study=study, rfray=__version__, runs=len(runs))
    planned = Planned(document=ledger.study_document(study), note=note)
    pack.text(contents.FORMAT, [form.model_dump_json(indent=1)])
    pack.text(contents.README, [contents.readme(form, note)])
    pack.text(contents.STUDY, [planned.model_dump_json(indent=1)])
    rows = [(contents.run_folder(run), run) for run in runs.values()]
    pack.text(contents.RUNS, contents.runs_text(rows))


def _write_run(
    pack: _Pack,
    ledger: Ledger,
    run: RunRecord,
    runs: Mapping[str, RunRecord],
    keep: Callable[[str], bool],
) -> int:
    """Write a run; returns the number of its artifacts that are left out."""
    folder, ended = contents.run_folder(run), run.end_time or run.start_time
    there = artifact_names(run.artifact_uri, ledger.tracking_uri)
    names = [name for name in there if keep(name)]
    recorded = _recorded_digests(ledger, run, there)
    missing = sorted({*there, *recorded, *withheld_of(run)} - set(names))
    copy = contents.run_copy(run, runs, missing)
    pack.text(f"{folder}/{contents.RUN}", [copy.model_dump_json(indent=1)], ended)
    measured = contents.metrics_text(ledger.measured(run))
    pack.text(f"{folder}/{contents.METRICS}", measured, ended)
    # `result.json` last: it marks a run as complete, and an import may be interrupted.
    for name in sorted(names, key=lambda name: (name == RESULT, name)):
        with artifact_at_hand(run.artifact_uri, name, ledger.tracking_uri) as path:
            size = path.stat().st_size
            with path.open("rb") as file:
                digest = pack.file(f"{folder}/{contents.ARTIFACTS}/{name}", file, size, ended)
        if recorded.get(name, digest) != digest:
            raise _damaged(run, name)
    return len(missing)


def _recorded_digests(ledger: Ledger, run: RunRecord, names: Iterable[str]) -> dict[str, str]:
    """The digests of a run's artifacts from its result file; empty if it has none."""
    if RESULT not in names or run.status != "FINISHED":
        return {}
    with artifact_at_hand(run.artifact_uri, RESULT, ledger.tracking_uri) as path:
        try:
            digests: dict[str, str] = json.loads(path.read_text(encoding="utf-8"))["digests"]
        except (ValueError, KeyError, TypeError) as error:
            raise _damaged(run, RESULT) from error
    if run.tags.get(DIGEST_TAG, "") not in ("", digest_of(digests)):
        raise _damaged(run, RESULT)
    return digests


def _damaged(run: RunRecord, name: str) -> UserError:
    return UserError(
        f"the artifact '{name}' of the run {run.name} is not what the run recorded",
        where=run.artifact_uri,
        do="put the original back, or compute the run again with `rfray redo`",
    )


def _refuse_name(study: str, where: str) -> None:
    try:
        TypeAdapter(StudyName).validate_python(study)
    except ValidationError as error:
        raise UserError(f"'{study}' is not a valid name of a study", where=where) from error
