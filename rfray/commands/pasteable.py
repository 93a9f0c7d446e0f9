"""Commands that rfray prints, quoted for a shell. Pure."""

import shlex
from collections.abc import Mapping, Sequence

from rfray.storage import Storage


def sweep_again(arguments: Sequence[str], options: Mapping[str, str | None]) -> str:
    """The command that resumes a sweep.

    Args:
        arguments: The sweep's name or file, its changes, and flags.
        options: Options with a value, by name; None or empty if not given.
    """
    given = [part for name, value in options.items() if value for part in (name, value)]
    return shlex.join(["python", "-m", "rfray.sweep", *arguments, *given])


def compare_runs(place: Storage) -> str:
    """The command that shows the runs of a tracking store in a browser."""
    served = place.tracking_uri.startswith("http")
    show = ["open"] if served else ["mlflow", "ui", "--backend-store-uri"]
    return shlex.join([*show, place.tracking_uri])


def build_tables(place: Storage, study: str) -> str:
    """The command that builds the tables of a study in this storage."""
    store = [] if place.embedded else ["--tracking-uri", place.tracking_uri]
    return shlex.join(["rfray", "analyze", "--study", study, "--storage", str(place.root), *store])
