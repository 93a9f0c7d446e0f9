"""The folders of data on this machine."""

import json
import os
from pathlib import Path

DATA_VARIABLE = "RFRAY_DATA"

FINDINGS = "findings"
"""The name of the findings in a prepared copy's header, a JSON list of sentences."""


def data_folder() -> Path:
    """The folder of data sets' files on this machine: RFRAY_DATA, else `~/.cache/rfray`."""
    root = os.environ.get(DATA_VARIABLE)
    return Path(root).expanduser() if root else _own_folder()


def prepared_folder() -> Path:
    """The folder of prepared copies: in the data folder, or in `~/.cache` if that is read-only."""
    root = data_folder()
    read_only = root.is_dir() and not os.access(root, os.W_OK)
    return (_own_folder() if read_only else root) / "prepared"


def prepared_file(fingerprint: str) -> Path:
    """The prepared copy of a data set on this machine, which may not exist yet."""
    return prepared_folder() / f"{fingerprint}.safetensors"


def noted_findings(path: Path) -> tuple[str, ...]:
    """What was found when a prepared copy was made, one sentence each."""
    note = (prepared_notes(path) or {}).get(FINDINGS, "[]")
    return tuple(json.loads(note))


def prepared_notes(path: Path) -> dict[str, str] | None:
    """The header's entries in a prepared copy; None if there is no copy, or a truncated one.

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
    """The folder that `use_data_root` set last, and the value of RFRAY_DATA before."""

    root: str | None = None
    before: str | None = None


def use_data_root(root: str | None) -> None:
    """Make `root` the data folder of this process and of those that it starts.

    Args:
        root: A folder; `~` is the user's home, and a relative path starts at the working directory.
            None uses RFRAY_DATA again, as it was before a study of this process set it.
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
