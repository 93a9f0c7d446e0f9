"""Where data lies on this machine."""

from __future__ import annotations

import json
import os
from pathlib import Path

DATA_VARIABLE = "RFRAY_DATA"

FINDINGS = "findings"
"""What a prepared copy's header calls what was found of its files, a JSON list of sentences."""


def data_folder() -> Path:
    """RFRAY_DATA, else `~/.cache/rfray`: where the files of data sets lie on this machine."""
    root = os.environ.get(DATA_VARIABLE)
    return Path(root).expanduser() if root else _own_folder()


def prepared_folder() -> Path:
    """Where prepared copies lie: in the data folder, or in the user's own if it is read-only."""
    root = data_folder()
    read_only = root.is_dir() and not os.access(root, os.W_OK)
    return (_own_folder() if read_only else root) / "prepared"


def prepared_file(fingerprint: str) -> Path:
    """The prepared copy of a data set on this machine, whether or not it is there."""
    return prepared_folder() / f"{fingerprint}.safetensors"


def noted_findings(path: Path) -> tuple[str, ...]:
    """What was found as a prepared copy was made of its files, a sentence each."""
    note = (prepared_notes(path) or {}).get(FINDINGS, "[]")
    return tuple(json.loads(note))


def prepared_notes(path: Path) -> dict[str, str] | None:
    """What the header of a prepared copy notes; None where there is no copy, or a truncated one.

    Only the header is read, without PyTorch.
    """
    if not path.is_file():
        return None
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="np") as file:
            return file.metadata() or {}
    except (SafetensorError, OSError):
        return None


class _Used:
    """The folder that `use_data_root` last chose, and what RFRAY_DATA said before it."""

    root: str | None = None
    before: str | None = None


def use_data_root(root: str | None) -> None:
    """Make `root` the data folder of this process and of those that it starts.

    Args:
        root: A folder; `~` is the user's home, and a relative path starts at the working directory.
            None leaves it to RFRAY_DATA, as it is but for what another study had chosen here.
    """
    if _Used.root is not None and os.environ.get(DATA_VARIABLE) == _Used.root:
        os.environ.pop(DATA_VARIABLE)
        if _Used.before is not None:
            os.environ[DATA_VARIABLE] = _Used.before
    _Used.root = None if root is None else str(Path(root).expanduser().resolve())
    if _Used.root is not None:
        _Used.before = os.environ.get(DATA_VARIABLE)
        os.environ[DATA_VARIABLE] = _Used.root


def _own_folder() -> Path:
    return Path.home() / ".cache" / "rfray"
