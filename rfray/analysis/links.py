"""Links from a report to the pages of MLflow."""

import json
import shlex
from collections.abc import Sequence
from urllib.parse import quote, urlsplit, urlunsplit

from rfray.analysis.frame import StudyFrame

LOCAL_UI = "http://127.0.0.1:5000"
"""Where `mlflow ui` shows a store that has no server of its own."""


def without_password(tracking_uri: str) -> str:
    """A tracking URI that may be shown in a report: without user and password."""
    parts = urlsplit(tracking_uri)
    if "@" not in parts.netloc:
        return tracking_uri
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def ui_address(tracking_uri: str) -> str:
    """The address of a store's pages: its server, or `mlflow ui` on this machine."""
    served = urlsplit(tracking_uri).scheme in ("http", "https")
    return without_password(tracking_uri).rstrip("/") if served else LOCAL_UI


def ui_command(tracking_uri: str) -> str:
    """The shell command that shows a store without a server."""
    store = without_password(tracking_uri)
    return shlex.join(["mlflow", "ui", "--backend-store-uri", store])


def runs_link(frame: StudyFrame, run_ids: Sequence[str]) -> str:
    """The page of one run, or the comparison of several runs, of one study or of several."""
    base = ui_address(frame.tracking_uri)
    held = [one.experiment_id for one in frame.studies if not one.run_ids.isdisjoint(run_ids)]
    found = held or [frame.experiment_id]
    if len(run_ids) == 1:
        return f"{base}/#/experiments/{found[0]}/runs/{run_ids[0]}"
    runs, experiments = (quote(json.dumps(ids, separators=(",", ":"))) for ids in (run_ids, found))
    return f"{base}/#/compare-runs?runs={runs}&experiments={experiments}"
