"""Artifacts fetched from where a run keeps them, and sent there."""

from __future__ import annotations

from pathlib import Path

from mlflow.artifacts import download_artifacts, list_artifacts
from mlflow.tracking import MlflowClient

from rfray.artifacts import local_path


def fetch_artifact(artifact_uri: str, name: str, tracking_uri: str) -> Path | None:
    """Local path of one artifact of a run, downloaded if it lies elsewhere; None if absent."""
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
