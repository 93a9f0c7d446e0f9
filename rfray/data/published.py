"""The published files of a data set: found, downloaded and verified before they are read."""

import hashlib
import math
import tarfile
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from rfray.errors import UserError
from rfray.terminal.telling import counted, tell

_TIMEOUT_SECONDS = 30
_CHUNK = 1 << 20


@dataclass(frozen=True)
class PublishedFile:
    """One published file.

    Attributes:
        name: Path below the data folder, parts separated by `/`.
        md5: Its published checksum, in hexadecimal.
        urls: Addresses for its download, tried in this order; empty for a part of an archive.
        contents_md5: For a compressed file, the published checksum of its contents; empty if there
            is none.
    """

    name: str
    md5: str
    urls: tuple[str, ...] = ()
    contents_md5: str = ""


@dataclass(frozen=True)
class PublishedArchive:
    """A tar archive, or the folder that it was extracted to.

    Attributes:
        members: The files in it that are read; their names are the paths after extraction.
    """

    archive: PublishedFile
    members: tuple[PublishedFile, ...]


def read_members(published: PublishedArchive, root: Path) -> Mapping[str, bytes]:
    """The contents of the members by name and in their order, each verified.

    The archive is read without extraction. If it is missing, the extracted folder is read; if that
    is missing too, the archive is downloaded.

    Raises:
        UserError: A file is missing, truncated or not the published one.
    """
    names = [member.name for member in published.members]
    folder = (root / names[0]).parent
    if folder.is_dir() and not (root / published.archive.name).is_file():
        _refuse_half_extracted(folder, names, published.archive.name)
        contents = {name: (root / name).read_bytes() for name in names}
    else:
        contents = _archived(provide(published.archive, root), names)
    for member in published.members:
        verify_bytes(contents[member.name], member.md5, f"{root / member.name}")
    return {name: contents[name] for name in names}


def _refuse_half_extracted(folder: Path, names: Sequence[str], archive: str) -> None:
    missing = [name for name in names if not (folder.parent / name).is_file()]
    if missing:
        raise UserError(
            f"the folder is half extracted: {len(names) - len(missing)} of {len(names)} files, "
            f"'{Path(missing[0]).name}' is missing",
            where=str(folder),
            do=f"extract {archive} again, or put the archive itself next to it",
        )


def _archived(archive: Path, names: Collection[str]) -> dict[str, bytes]:
    """The contents of members of an archive that has been verified."""
    contents: dict[str, bytes] = {}
    with tarfile.open(archive) as opened:
        for entry in opened:
            name = entry.name.removeprefix("./")
            file = opened.extractfile(entry) if name in names else None
            if file is not None:
                contents[name] = file.read()
    return contents


def provide(published: PublishedFile, root: Path) -> Path:
    """The path of a file below `root`, verified; it is downloaded if it is missing.

    Raises:
        UserError: See `fetch` and `verify`.
    """
    path = root / published.name
    if not path.is_file():
        fetch(published, root)
    verify(path, published.md5)
    return path


def fetch(published: PublishedFile, root: Path) -> Path:
    """Download a file to its path below `root`, under a temporary name until it is verified.

    Raises:
        UserError: No address gives the published file; the error says where to put it by hand.
    """
    from http.client import HTTPException

    path = root / published.name
    draft = path.with_name(f"{path.name}.partial")
    reason = "there is no address to download it from"
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
        UserError: It gives the file, its size and both checksums.
    """
    tell(f"verifying {path.name}")
    with path.open("rb") as file:
        found = hashlib.file_digest(file, _md5).hexdigest()
    _refuse_unless_equal(found, md5, str(path), path.stat().st_size)


def verify_bytes(content: bytes, md5: str, name: str) -> None:
    """Refuse contents whose checksum is not the published one; see `verify`."""
    _refuse_unless_equal(_md5(content).hexdigest(), md5, name, len(content))


_md5 = partial(hashlib.md5, usedforsecurity=False)


def _refuse_unless_equal(found: str, expected: str, name: str, size: int) -> None:
    if found != expected:
        raise UserError(
            f"not the published file, or truncated: its {size:,} bytes have the MD5 {found}, "
            f"expected {expected}",
            where=name,
            do="delete it and download it again",
        )
