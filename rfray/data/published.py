"""Files that a data set is published as: found, fetched and verified before anything reads them."""

from __future__ import annotations

import hashlib
import math
import tarfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from rfray.errors import UserError
from rfray.terminal.telling import counted, tell

_TIMEOUT_SECONDS = 30
_CHUNK = 1 << 20


@dataclass(frozen=True)
class PublishedFile:
    """One file as its publisher offers it.

    Attributes:
        name: Path below the data folder, parts separated by `/`.
        md5: Its published checksum, in hexadecimal.
        urls: Where it may be downloaded, tried in turn; empty for a part of an archive.
    """

    name: str
    md5: str
    urls: tuple[str, ...] = ()


@dataclass(frozen=True)
class PublishedArchive:
    """A tar archive, or the folder that it was extracted to.

    Attributes:
        archive: The archive.
        members: What is read of it; names below the data folder, as extracted there.
    """

    archive: PublishedFile
    members: tuple[PublishedFile, ...]


def read_members(published: PublishedArchive, root: Path) -> Mapping[str, bytes]:
    """The members' contents by name, each with its published checksum.

    The archive is read without being extracted; where there is none, the extracted folder is; where
    there is neither, the archive is downloaded.

    Raises:
        UserError: A file is missing, truncated or not the published one.
    """
    archive = root / published.archive.name
    folder = (root / published.members[0].name).parent
    if not archive.is_file() and folder.is_dir():
        contents = _extracted(published, root, folder)
    else:
        if not archive.is_file():
            fetch(published.archive, root)
        verify(archive, published.archive.md5)
        contents = _archived(published, archive)
    for member in published.members:
        verify_bytes(contents[member.name], member.md5, f"{root / member.name}")
    return contents


def _extracted(published: PublishedArchive, root: Path, folder: Path) -> dict[str, bytes]:
    names = [member.name for member in published.members]
    missing = [name for name in names if not (root / name).is_file()]
    if missing:
        raise UserError(
            f"the folder is half extracted: {len(names) - len(missing)} of {len(names)} files, "
            f"'{Path(missing[0]).name}' is missing",
            where=str(folder),
            do=f"extract {published.archive.name} again, or put the archive itself beside it",
        )
    return {name: (root / name).read_bytes() for name in names}


def _archived(published: PublishedArchive, archive: Path) -> dict[str, bytes]:
    wanted = {member.name for member in published.members}
    contents: dict[str, bytes] = {}
    try:
        with tarfile.open(archive) as opened:
            for entry in opened:
                name = entry.name.removeprefix("./")
                content = opened.extractfile(entry) if name in wanted else None
                if content is not None:
                    contents[name] = content.read()
    except (tarfile.TarError, EOFError, zlib.error, OSError) as error:
        raise UserError(f"the archive cannot be read: {error}", where=str(archive)) from error
    missing = sorted(wanted - contents.keys())
    if missing:
        raise UserError(f"the archive holds no '{missing[0]}'", where=str(archive))
    return contents


def fetch(published: PublishedFile, root: Path) -> Path:
    """Download a file to its place below `root`, under a temporary name until it is verified.

    Raises:
        UserError: No address gave the published file; it says where to put it by hand.
    """
    from http.client import HTTPException

    path = root / published.name
    draft = path.with_name(f"{path.name}.partial")
    reason = "there is nowhere to download it from"
    for url in published.urls:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            _download(url, draft)
            verify(draft, published.md5)
        except (OSError, HTTPException, UserError) as error:
            draft.unlink(missing_ok=True)
            problem = error.what if isinstance(error, UserError) else error
            reason = f"the download failed: {problem}"
            continue
        return draft.replace(path)
    source = f"the file from {published.urls[0]}" if published.urls else "the published file"
    raise UserError(f"missing, and {reason}", where=str(path), do=f"put {source} there")


def _download(url: str, path: Path) -> None:
    import urllib.request

    opened = urllib.request.urlopen(url, timeout=_TIMEOUT_SECONDS)  # noqa: S310 (a constant of ours)
    with opened as answer, path.open("wb") as file:
        length = answer.headers.get("Content-Length")
        total = math.ceil(int(length) / _CHUNK) if length else None
        chunks = iter(partial(answer.read, _CHUNK), b"")
        for chunk in counted(chunks, total, f"downloading {path.stem}", "MiB"):
            file.write(chunk)


def verify(path: Path, md5: str) -> None:
    """Refuse a file whose checksum is not the published one.

    Raises:
        UserError: It names the file, its size and both checksums.
    """
    tell(f"verifying {path.name}")
    with path.open("rb") as file:
        found = hashlib.file_digest(file, _md5).hexdigest()
    _refuse_unless_equal(found, md5, str(path), path.stat().st_size)


def verify_bytes(content: bytes, md5: str, name: str) -> None:
    """Refuse a content whose checksum is not the published one; see `verify`."""
    _refuse_unless_equal(_md5(content).hexdigest(), md5, name, len(content))


def _md5(content: bytes = b"") -> hashlib._Hash:
    return hashlib.md5(content, usedforsecurity=False)


def _refuse_unless_equal(found: str, expected: str, name: str, size: int) -> None:
    if found != expected:
        raise UserError(
            f"not the published file, or truncated: its {size:,} bytes have the MD5 {found}, "
            f"expected {expected}",
            where=name,
            do="delete it and download it again",
        )
