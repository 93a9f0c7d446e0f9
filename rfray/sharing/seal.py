"""The seal: the last bytes of an archive, a SHA-256 of all bytes before them.

They are a skippable frame of Zstandard (RFC 8878, section 3.1.2), which every Zstandard program
skips. The seal shows whether an archive was cut off or changed. It is not a signature: anybody can
write one.
"""

import hashlib
import struct
from pathlib import Path
from typing import BinaryIO

from rfray.errors import UserError

_SKIPPABLE_MAGIC = 0x184D2A5E
_ZSTANDARD_MAGIC = b"\x28\xb5\x2f\xfd"
_WHO = b"rfrayseal"
_DIGEST_BYTES = 32
_HEAD = struct.pack("<II", _SKIPPABLE_MAGIC, len(_WHO) + _DIGEST_BYTES) + _WHO
SEAL_BYTES = len(_HEAD) + _DIGEST_BYTES

_PIECE = 1 << 20


def seal(path: Path) -> None:
    """Append the seal to a complete file."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").digest()
    with path.open("ab") as file:
        file.write(_HEAD + digest)


def check_seal(path: Path) -> None:
    """Check the seal of a file.

    Raises:
        UserError: The file cannot be read, is not an archive, is cut off, or was changed.
    """
    try:
        with path.open("rb") as file:
            _check(file, path)
    except OSError as error:
        raise UserError(
            f"the archive cannot be read: {error.strerror}", where=str(path), do="check its path"
        ) from error


def _check(file: BinaryIO, path: Path) -> None:
    again = "copy it again from where it was written"
    if file.read(len(_ZSTANDARD_MAGIC)) != _ZSTANDARD_MAGIC:
        raise UserError(
            "this is not an archive of a study", where=str(path), do="`rfray export` writes them"
        )
    length = file.seek(0, 2) - SEAL_BYTES
    found = b""
    if length > 0:
        file.seek(length)
        found = file.read()
    if not found.startswith(_HEAD):
        raise UserError("the archive is cut off: its end is missing", where=str(path), do=again)
    file.seek(0)
    digest = hashlib.sha256()
    while length > 0:
        piece = file.read(min(_PIECE, length))
        digest.update(piece)
        length -= len(piece)
    if digest.digest() != found[len(_HEAD) :]:
        raise UserError(
            "the archive was changed since it was written: its SHA-256 differs",
            where=str(path),
            do=again,
        )
