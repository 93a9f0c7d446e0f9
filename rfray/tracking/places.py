"""Where artifacts lie: found from the store that names them, wherever the store lay before.

MLflow records absolute addresses, and a folder that is moved, copied or reached through another
mount keeps the old ones (mlflow#3144). What stays the same is the way from the database to the
artifacts.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath

from mlflow.entities import Experiment

from rfray.files.artifacts import local_path

STORE_TAG = "rfray.store"
"""Experiment tag: the folder of its database, as of when its addresses were written. What they name
below it moves with it."""

_SQLITE = "sqlite:///"
ARTIFACTS = "artifacts"
"""What MLflow calls the folder of a run's artifacts, below one named after the run."""


@dataclass(frozen=True)
class Home:
    """The folder of a study's artifacts, seen from its store.

    Attributes:
        store: Folder of the database, as it is reached now.
        relative: From there to the artifacts, such as `artifacts/quickstart`.
    """

    store: Path
    relative: str

    @property
    def folder(self) -> Path:
        """Where the artifacts of the study's runs lie."""
        return self.store / self.relative

    @cached_property
    def uri(self) -> str:
        """The folder as MLflow records it of an experiment."""
        return self.folder.as_uri()

    def held(self) -> frozenset[str]:
        """Identifiers of the runs that have a folder here."""
        if not is_there(self.folder):
            return frozenset()
        return frozenset(path.name for path in self.folder.iterdir())

    def former_store(self, uri: str, *below: str) -> Path | None:
        """Where the store lay when it recorded `uri` for what is `below` the study's artifacts.

        None if that cannot be said.
        """
        path = local_path(uri)
        tail = PurePosixPath(self.relative, *below).parts
        if path is None or path.parts[-len(tail) :] != tail:
            return None
        return Path(*path.parts[: -len(tail)])


def is_there(folder: Path) -> bool:
    """Whether a folder is there; one that may not be looked into counts as absent."""
    try:
        return folder.is_dir()
    except OSError:
        return False


def database_file(tracking_uri: str) -> Path | None:
    """The file of a sqlite store; None if the store is no such file."""
    if not tracking_uri.startswith(_SQLITE) or tracking_uri == _SQLITE:
        return None
    return Path(tracking_uri.removeprefix(_SQLITE)).absolute()


def new_home(tracking_uri: str, study: str) -> Home | None:
    """Where a new study keeps its artifacts; None leaves it to the tracking server."""
    database = database_file(tracking_uri)
    return Home(database.parent, f"{ARTIFACTS}/{study}") if database else None


def home_of(experiment: Experiment, store: Path, owns: Callable[[str], bool]) -> Home | None:
    """Where a study's artifacts lie if they move with its store; None if they do not.

    They do if they lay below the store when it said so last, or do now. Of an experiment that is
    older than that tag a folder of one of its runs has to lie here: nothing else tells a store that
    was moved from a study whose artifacts lie on another disk on purpose.

    Args:
        experiment: MLflow's experiment.
        store: Folder of its database.
        owns: Whether a run of that identifier is the experiment's.
    """
    recorded = local_path(experiment.artifact_location)
    if recorded is None:
        return None
    then = experiment.tags.get(STORE_TAG)
    if then and recorded.is_relative_to(then):
        return Home(store, str(recorded.relative_to(then)))
    if not then:
        candidates = (Home(store, relative) for relative in _tails(recorded))
        found = next((home for home in candidates if any(map(owns, home.held()))), None)
        if found:
            return found
    return Home(store, str(recorded.relative_to(store))) if recorded.is_relative_to(store) else None


def present_address(
    home: Home,
    run_id: str,
    status: str,
    recorded: str,
    held: Container[str],
    exists: Callable[[Path], bool],
) -> str:
    """Where a run's artifacts are read and written: in the home of its study.

    The recorded address stays in force for the FINISHED run that has no folder at home while it has
    one there, as where a database was copied alone; nothing more is ever written to it.

    Args:
        home: Of the study.
        run_id: The run.
        status: Its status in MLflow.
        recorded: Its artifact URI in MLflow.
        held: Runs that have a folder at home.
        exists: Whether a folder is there.
    """
    here = f"{home.uri}/{run_id}/{ARTIFACTS}"
    former = local_path(recorded) if recorded != here else None
    if former is None or former.parts[-2:] != (run_id, ARTIFACTS):
        return recorded
    if status == "FINISHED" and run_id not in held and exists(former):
        return recorded
    return here


def _tails(path: Path) -> Iterator[str]:
    """The ends of a path, longest first, without its root."""
    names = path.parts[1:]
    for start in range(len(names)):
        yield str(PurePosixPath(*names[start:]))
