"""Writes a report: each file completely or not at all, and no file of an earlier report remains."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from rfray.errors import UserError
from rfray.files.atomic import write_atomically

_LIST = ".rfray-files"


def write_all(out: Path, files: Mapping[str, bytes]) -> list[Path]:
    """Writes every file into `out`, and removes files of an earlier call that are not among them.

    Other files in `out` stay.

    Args:
        out: Folder; it is created if it does not exist.
        files: Contents by path relative to `out`.

    Returns:
        The paths in the order of `files`.

    Raises:
        UserError: If the folder cannot be written.
    """
    try:
        earlier = _earlier(out)
        for name, content in files.items():
            write_atomically(out / name, content)
        write_atomically(out / _LIST, "".join(f"{name}\n" for name in files))
        for name in earlier - set(files):
            (out / name).unlink(missing_ok=True)
    except OSError as error:
        what = f"the report cannot be written: {error.strerror or error}"
        raise UserError(
            what, where=str(error.filename or out), do="choose another --out"
        ) from error
    return [out / name for name in files]


def _earlier(out: Path) -> set[str]:
    listed = out / _LIST
    if not listed.is_file():
        return set()
    names = listed.read_text(encoding="utf-8").splitlines()
    return {name for name in names if (out / name).resolve().is_relative_to(out.resolve())}
