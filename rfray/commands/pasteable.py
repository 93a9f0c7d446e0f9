"""Commands that rfray prints, quoted so that a shell takes them as they stand. Pure."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence

from rfray.storage import Storage


def sweep_again(arguments: Sequence[str], options: Mapping[str, str | None]) -> str:
    """The command that resumes a sweep.

    Args:
        arguments: The sweep's name or file, its changes, and flags.
        options: Those of a value, by their names; None or empty where they were not given.
    """
    given = [part for name, value in options.items() if value for part in (name, value)]
    return shlex.join(["python", "-m", "rfray.sweep", *arguments, *given])


def compare_runs(place: Storage) -> str:
    """The command that shows a store's runs in a browser."""
    served = place.tracking_uri.startswith("http")
    show = ["open"] if served else ["mlflow", "ui", "--backend-store-uri"]
    return shlex.join([*show, place.tracking_uri])


def build_tables(place: Storage, study: str) -> str:
    """The command that builds the tables of a study kept there."""
    store = [] if place.embedded else ["--tracking-uri", place.tracking_uri]
    return shlex.join(["rfray", "analyze", "--study", study, "--storage", str(place.root), *store])
