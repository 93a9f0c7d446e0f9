"""Checks an archive before anything of it is used.

First the seal shows that the archive is complete. Then all of it is read once: it may have only
regular files, all in the study's folder, each with the digest that the archive states.
"""

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
        size: Size in bytes.
        content: The file, open for reading.
    """

    name: str
    size: int
    content: IO[bytes]

    def document(self) -> bytes:
        """The content of a small file; ValueError if it is not small."""
        if self.size > _LARGEST_DOCUMENT:
            raise ValueError(f"{self.name} is too large")
        return self.content.read()


@dataclass(frozen=True)
class Vetted:
    """An archive that was checked.

    Attributes:
        planned: The study document and its description.
        digests: SHA-256 of each file, by its path below the study's folder.
        size: Size of all its files in bytes.
    """

    path: Path
    form: Format
    planned: Planned
    digests: dict[str, str]
    size: int


def vetted(path: Path) -> Vetted:
    """Check an archive completely.

    Raises:
        UserError: It is not an archive, is of another version, is cut off or changed, or has a file
            that is not allowed.
    """
    check_seal(path)
    with refusals(path), members(path) as found:
        form = _form(next(found, None))
        planned: Planned | None = None
        stated: dict[str, str] = {}
        digests: dict[str, str] = {}
        size = 0
        for member in found:
            if member.name == contents.STUDY:
                text = member.document()
                planned = Planned.model_validate_json(text)
                digests[member.name] = hashlib.sha256(text).hexdigest()
            elif member.name == contents.SUMS:
                stated = contents.read_sums(member.document().decode())
            else:
                digests[member.name] = _digest(member)
            size += member.size
        stated.pop(contents.FORMAT, None)
        if planned is None or stated != digests:
            raise ValueError(f"its files do not match its {contents.SUMS}")
    return Vetted(path, form, planned, digests, size)


@contextmanager
def members(path: Path) -> Iterator[Iterator[Member]]:
    """The files of an archive, one after the other. Read each one before the next.

    Raises:
        ValueError: A file is not allowed.
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
    """Turn errors inside an archive into a UserError."""
    try:
        yield
    except ValidationError as error:
        details = error.errors()[0]
        raise _refused(path, f"'{details['loc'][-1]}': {details['msg']}") from error
    except (ValueError, EOFError, tarfile.TarError, zstandard.ZstdError) as error:
        raise _refused(path, str(error)) from error


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
            raise ValueError(f"{member.name!r} is not a plain file below the study's folder")
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
