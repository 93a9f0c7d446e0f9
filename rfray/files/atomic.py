"""Files that a reader finds whole or not at all, whoever dies while they are written."""

from __future__ import annotations

import os
from pathlib import Path
from uuid import uuid4

PARTIAL = ".partial"
"""How the name of what is not complete yet ends."""


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write a small file so that a reader finds all of it or the file before it; text is UTF-8."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = partial_path(path)
    try:
        partial.write_bytes(content.encode() if isinstance(content, str) else content)
        replace_with(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def partial_path(path: Path) -> Path:
    """A name beside `path` for what is not complete yet; no two writers get the same."""
    return path.with_name(f".{path.name}.{uuid4().hex}{PARTIAL}")


def replace_with(partial: Path, path: Path) -> None:
    """Put a complete file in the place of `path`, so that it outlives a power cut."""
    descriptor = os.open(partial, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    partial.replace(path)
