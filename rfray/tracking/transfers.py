"""Downloads and uploads of a run's artifacts."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from mlflow.artifacts import download_artifacts, list_artifacts
from mlflow.tracking import MlflowClient

from rfray.files.artifacts import local_path


def fetch_artifact(artifact_uri: str, name: str, tracking_uri: str) -> Path | None:
    """Local path of one artifact of a run, downloaded if it is on a server; None if absent."""
    local = local_path(artifact_uri)
    if local is not None:
        return local / name if (local / name).is_file() else None
    there = list_artifacts(artifact_uri=artifact_uri, tracking_uri=tracking_uri)
    if name not in {Path(entry.path).name for entry in there}:
        return None
    return Path(download_artifacts(f"{artifact_uri}/{name}", tracking_uri=tracking_uri))


def fetch_artifacts(artifact_uri: str, tracking_uri: str) -> Path:
    """Download a run's artifacts to a new local folder."""
    return Path(download_artifacts(artifact_uri, tracking_uri=tracking_uri))


def send_artifacts(folder: Path, run_id: str, tracking_uri: str) -> None:
    """Upload every file of a local folder to a run's artifact location."""
    MlflowClient(tracking_uri=tracking_uri).log_artifacts(run_id, str(folder))


def artifact_names(artifact_uri: str, tracking_uri: str) -> list[str]:
    """Paths of all artifact files of a run, also those in folders, sorted."""
    local = local_path(artifact_uri)
    if local is not None:
        files = (path for path in local.rglob("*") if path.is_file())
        return sorted(path.relative_to(local).as_posix() for path in files)
    return sorted(_names_below(artifact_uri, "", tracking_uri))


@contextmanager
def artifact_at_hand(artifact_uri: str, name: str, tracking_uri: str) -> Iterator[Path]:
    """A local path of an artifact; downloaded, and deleted afterwards, if it is on a server."""
    local = local_path(artifact_uri)
    if local is not None:
        yield local / name
        return
    with tempfile.TemporaryDirectory(prefix="rfray-") as scratch:
        yield Path(
            download_artifacts(
                f"{artifact_uri}/{name}", dst_path=scratch, tracking_uri=tracking_uri
            )
        )


def _names_below(artifact_uri: str, folder: str, tracking_uri: str) -> Iterator[str]:
    place = f"{artifact_uri}/{folder}" if folder else artifact_uri
    for entry in list_artifacts(artifact_uri=place, tracking_uri=tracking_uri):
        name = str(PurePosixPath(folder, PurePosixPath(entry.path).name))
        if entry.is_dir:
            yield from _names_below(artifact_uri, name, tracking_uri)
        else:
            yield name
