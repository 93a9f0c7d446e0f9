"""A stage's artifacts on disk, and the result that says that they are complete.

A stage works in a folder of its own. Its files are moved into the run's artifact folder one by one,
and `result.json` is written last: where it stands, everything that it names is there, whatever
became of the driver that should have recorded it.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path
from urllib.parse import unquote, urlparse

RESULT = "result.json"


def local_path(uri: str) -> Path | None:
    """The folder that a `file:` URI or a plain path means; None if the URI lies elsewhere."""
    parsed = urlparse(uri)
    if parsed.scheme in ("", "file"):
        return Path(unquote(parsed.path))
    return None


def file_digests(folder: Path) -> dict[str, str]:
    """SHA-256 (hexadecimal) of every file directly in `folder`, by its name."""
    digests = {}
    for path in sorted(folder.iterdir()):
        with path.open("rb") as file:
            digests[path.name] = hashlib.file_digest(file, "sha256").hexdigest()
    return digests


def publish(workspace: Path, folder: Path) -> None:
    """Move every file of `workspace` into `folder`, each whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in sorted(workspace.iterdir()):
        # Copied under a temporary name first: the two may lie on different file systems.
        partial = folder / f".{path.name}.partial"
        shutil.move(path, partial)
        partial.replace(folder / path.name)


def write_atomically(path: Path, text: str) -> None:
    """Write a small text file so that a reader finds all of it or the file before it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    with partial.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
