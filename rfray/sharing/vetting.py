"""An archive read to its end before anything of it is believed.

Its seal says that it is whole, and the pass that follows that it is harmless: regular files alone,
none outside the study's folder, each with the digest that the archive states.
"""

from __future__ import annotations

import hashlib
import json
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

import zstandard
from pydantic import ValidationError

from rfray import __version__
from rfray.errors import UserError
from rfray.sharing import contents
from rfray.sharing.contents import Format, Planned
from rfray.sharing.seal import check_seal

_PIECE = 1 << 20
_LARGEST_DOCUMENT = 64 << 20


@dataclass(frozen=True)
class Member:
    """A file of an archive.

    Attributes:
        name: Its path below the study's folder.
        size: Bytes.
        content: What is left to be read of it.
    """

    name: str
    size: int
    content: IO[bytes]

    def document(self) -> bytes:
        """All of a small file; ValueError if it is not small."""
        if self.size > _LARGEST_DOCUMENT:
            raise ValueError("it is far too large")
        return self.content.read()


@dataclass(frozen=True)
class Vetted:
    """An archive that is whole and harmless.

    Attributes:
        path: The archive.
        form: Which form it has.
        planned: What was planned.
        digests: SHA-256 of each file, by its path below the study's folder.
        sizes: Bytes of the files of each run, by the run's folder.
    """

    path: Path
    form: Format
    planned: Planned
    digests: dict[str, str]
    sizes: dict[str, int]


def vetted(path: Path) -> Vetted:
    """Read an archive to its end.

    Raises:
        UserError: It is no archive, of another version, cut off, changed, or has a member that it
            must not have.
    """
    check_seal(path)
    with refusals(path), members(path) as found:
        form = _form(next(found, None))
        planned: Planned | None = None
        stated: dict[str, str] = {}
        digests: dict[str, str] = {}
        sizes: dict[str, int] = {}
        for member in found:
            if member.name == contents.STUDY:
                text = member.document()
                planned = Planned.model_validate_json(text)
                digests[member.name] = hashlib.sha256(text).hexdigest()
            elif member.name == contents.SUMS:
                stated = contents.read_sums(member.document().decode())
            else:
                digests[member.name] = _digest(member)
            folder = run_folder_of(member.name)
            sizes[folder] = sizes.get(folder, 0) + member.size
        stated.pop(contents.FORMAT, None)
        if planned is None or stated != digests:
            raise ValueError(f"what it holds is not what its {contents.SUMS} says")
    return Vetted(path, form, planned, digests, sizes)


@contextmanager
def members(path: Path) -> Iterator[Iterator[Member]]:
    """The files of an archive, one after the other; each is to be read before the next.

    Raises:
        ValueError: One of them must not be there.
    """
    reader = zstandard.ZstdDecompressor()
    with (
        path.open("rb") as file,
        reader.stream_reader(file, closefd=False) as plain,
        tarfile.open(fileobj=plain, mode="r|") as tar,
    ):
        yield _members(tar)


@contextmanager
def refusals(path: Path) -> Iterator[None]:
    """Turn what is wrong inside an archive into a UserError."""
    try:
        yield
    except ValidationError as error:
        details = error.errors()[0]
        raise _refused(path, f"'{details['loc'][-1]}': {details['msg']}") from error
    except (ValueError, EOFError, tarfile.TarError, zstandard.ZstdError) as error:
        raise _refused(path, str(error)) from error


def run_folder_of(name: str) -> str:
    """The folder of the run that a file belongs to; empty if it belongs to none."""
    folder = name.partition(f"/{contents.ARTIFACTS}/")[0]
    if folder == name:
        folder = name.rpartition("/")[0]
    return folder


def _refused(path: Path, why: str) -> UserError:
    return UserError(
        f"the archive cannot be used: {why}", where=str(path), do="export the study again"
    )


def _members(tar: tarfile.TarFile) -> Iterator[Member]:
    study = None
    seen: set[str] = set()
    while (member := tar.next()) is not None:
        tar.members.clear()  # type: ignore[attr-defined]
        parts = PurePosixPath(member.name).parts
        whole = "/".join(parts) == member.name and member.name.isprintable()
        if not member.isreg() or len(parts) < 2 or ".." in parts or not whole:
            raise ValueError(f"{member.name!r} is no plain file below the study's folder")
        study = study or parts[0]
        name = "/".join(parts[1:])
        if parts[0] != study or name in seen:
            raise ValueError(f"{member.name!r} is outside the study's folder, or is there twice")
        seen.add(name)
        content = tar.extractfile(member)
        if content is None:
            raise ValueError(f"{member.name!r} has no content")
        yield Member(name, member.size, content)


def _form(member: Member | None) -> Format:
    if member is None or member.name != contents.FORMAT:
        raise ValueError(f"it does not begin with {contents.FORMAT}")
    document = json.loads(member.document())
    version = document.get("version") if isinstance(document, dict) else None
    if version != contents.VERSION:
        raise ValueError(
            f"it is of version {version}, and rfray {__version__} reads version {contents.VERSION}"
        )
    return Format.model_validate(document)


def _digest(member: Member) -> str:
    digest = hashlib.sha256()
    while piece := member.content.read(_PIECE):
        digest.update(piece)
    return digest.hexdigest()
