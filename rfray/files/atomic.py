"""Atomic writes: a reader finds a complete file or none, even if the writer is killed."""

import os
from pathlib import Path
from uuid import uuid4

PARTIAL = ".partial"
"""End of the name of a file that is not complete yet."""


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write a small file; a reader finds all of it, or the file before it. Text is UTF-8."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = partial_path(path)
    try:
        partial.write_bytes(content.encode() if isinstance(content, str) else content)
        replace_with(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def partial_path(path: Path) -> Path:
    """A path next to `path` for a file that is not complete yet; different for each writer."""
    return path.with_name(f".{path.name}.{uuid4().hex}{PARTIAL}")


def replace_with(partial: Path, path: Path) -> None:
    """Replace `path` by a complete file; after that it survives a power cut."""
    descriptor = os.open(partial, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    partial.replace(path)
