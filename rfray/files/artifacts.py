"""A stage's artifacts on disk, and the file that marks them as complete.

A stage works in a folder of its own. Its files are moved into the run's artifact folder one by one,
and `result.json` is written last. So if `result.json` exists, all files that it names exist, even
if the driver died before it recorded the run.
"""

import hashlib
import shutil
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import unquote, urlparse

from rfray.files.atomic import PARTIAL, partial_path, replace_with

RESULT = "result.json"


class DamagedArtifactError(Exception):
    """An artifact is missing, damaged, or not the one that its run recorded."""


class MissingArtifactError(DamagedArtifactError):
    """An artifact is missing; it may be in another place, undamaged."""


def local_path(uri: str) -> Path | None:
    """The folder of a `file:` URI or a plain path; None for any other URI."""
    parsed = urlparse(uri)
    if parsed.scheme == "file":
        return Path(unquote(parsed.path))
    return None if parsed.scheme else Path(unquote(uri))


def file_digest(path: Path) -> str:
    """SHA-256 (hexadecimal) of one file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def file_digests(folder: Path) -> dict[str, str]:
    """SHA-256 (hexadecimal) of every file directly in `folder`, by its name."""
    return {path.name: file_digest(path) for path in sorted(folder.iterdir())}


def digest_of(digests: Mapping[str, str]) -> str:
    """One SHA-256 (hexadecimal) for a set of files: that of the output of `sha256sum *`."""
    lines = "".join(f"{digest}  {name}\n" for name, digest in sorted(digests.items()))
    return hashlib.sha256(lines.encode()).hexdigest()


def check_files(folder: Path, digests: Mapping[str, str]) -> None:
    """Check that `folder` has the files in `digests`.

    Raises:
        MissingArtifactError: One is missing.
        DamagedArtifactError: One differs.
    """
    for name, digest in digests.items():
        path = folder / name
        if Path(name).name != name or not path.is_file():
            raise MissingArtifactError(f"'{name}' is missing in {folder}")
        if file_digest(path) != digest:
            raise DamagedArtifactError(f"{path} is damaged or was replaced: its SHA-256 differs")


def publish(workspace: Path, folder: Path) -> None:
    """Move every file of `workspace` into `folder`, each atomically."""
    folder.mkdir(parents=True, exist_ok=True)
    # Incomplete files of an attempt that was killed.
    for stale in folder.glob(f".*{PARTIAL}"):
        stale.unlink(missing_ok=True)
    for path in sorted(workspace.iterdir()):
        # Moved under a temporary name first: the folders may be on different file systems.
        partial = partial_path(folder / path.name)
        try:
            shutil.move(path, partial)
            replace_with(partial, folder / path.name)
        finally:
            partial.unlink(missing_ok=True)
