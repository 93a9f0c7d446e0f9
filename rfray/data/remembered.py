"""Facts that were read from files: kept beside the prepared copies until a file changes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

from rfray.data.dataset import DatasetFacts
from rfray.files.atomic import write_atomically

_READING = "viewed-1"
"""Enters what is remembered: raise it where pictures are read otherwise than when they were."""

ENCODING = ("utf-8", "surrogateescape")
"""How a file's name becomes bytes, whatever it is made of."""


def files_state(folder: Path, names: Iterable[str]) -> str:
    """Digest of the name, size and time of change of files below a folder."""
    content = hashlib.blake2b(_READING.encode(), digest_size=12)
    for name in names:
        status = (folder / name).stat()
        content.update(f"{name}\n{status.st_size}\n{status.st_mtime_ns}\n".encode(*ENCODING))
    return content.hexdigest()


def memory_file(memory: Path, name: str, folder: Path) -> Path:
    """Where the facts of the data set `name` in `folder` are remembered."""
    place = hashlib.blake2b(str(folder).encode(*ENCODING), digest_size=6).hexdigest()
    return memory / f"{name}-{place}.json"


def recall(path: Path, state: str) -> DatasetFacts | None:
    """The facts that were remembered of files in this state; None if there are none."""
    try:
        document = json.loads(path.read_text())
        if document["state"] != state:
            return None
        known = document["facts"]
        lists = {name: tuple(known[name]) for name in ("mean", "deviation", "findings")}
        return DatasetFacts(**{**known, **lists})
    except (OSError, ValueError, KeyError, TypeError):
        return None  # Nothing remembered, or nothing that can be read: the pictures tell.


def remember(path: Path, state: str, facts: DatasetFacts) -> None:
    """Keep the facts of files in this state."""
    write_atomically(path, json.dumps({"state": state, "facts": asdict(facts)}))
