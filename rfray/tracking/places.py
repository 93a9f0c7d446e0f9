"""Where artifacts are, also after the storage folder was moved.

MLflow records absolute addresses. If a folder is moved, copied or mounted at another path, its
database keeps the old ones (mlflow#3144). But the relative path from the database to the artifacts
stays the same.
"""

from collections.abc import Callable, Container, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath

from mlflow.entities import Experiment

from rfray.files.artifacts import local_path

STORE_TAG = "rfray.store"
"""Experiment tag: the folder of its database at the time when its addresses were written. Artifacts
below this folder move with it."""

_SQLITE = "sqlite:///"
ARTIFACTS = "artifacts"
"""MLflow's name of the folder of a run's artifacts, in a folder named after the run."""


@dataclass(frozen=True)
class Home:
    """The folder of a study's artifacts, relative to its store.

    Attributes:
        store: Folder of the database now.
        relative: Path from there to the artifacts, such as `artifacts/quickstart`.
    """

    store: Path
    relative: str

    @property
    def folder(self) -> Path:
        """The folder of the artifacts of the study's runs."""
        return self.store / self.relative

    @cached_property
    def uri(self) -> str:
        """The folder as MLflow records it for an experiment."""
        return self.folder.as_uri()

    def held(self) -> frozenset[str]:
        """Identifiers of the runs that have a folder here."""
        if not is_there(self.folder):
            return frozenset()
        return frozenset(path.name for path in self.folder.iterdir())

    def former_store(self, uri: str, *below: str) -> Path | None:
        """The folder of the store when it recorded `uri` for `below` in the study's artifacts.

        None if it is not known.
        """
        path = local_path(uri)
        tail = PurePosixPath(self.relative, *below).parts
        if path is None or path.parts[-len(tail) :] != tail:
            return None
        return Path(*path.parts[: -len(tail)])


def is_there(folder: Path) -> bool:
    """Whether a folder exists; without permission to look it counts as absent."""
    try:
        return folder.is_dir()
    except OSError:
        return False


def database_file(tracking_uri: str) -> Path | None:
    """The file of a sqlite store; None for any other store."""
    if not tracking_uri.startswith(_SQLITE) or tracking_uri == _SQLITE:
        return None
    return Path(tracking_uri.removeprefix(_SQLITE)).absolute()


def new_home(tracking_uri: str, study: str) -> Home | None:
    """Where a new study keeps its artifacts; None if the tracking server decides."""
    database = database_file(tracking_uri)
    return Home(database.parent, f"{ARTIFACTS}/{study}") if database else None


def home_of(experiment: Experiment, store: Path, owns: Callable[[str], bool]) -> Home | None:
    """Where a study's artifacts are, if they move with its store; else None.

    They do if they were below the store when `STORE_TAG` was written, or are below it now. An old
    experiment has no such tag. Then a folder of one of its runs must be here: otherwise a store
    that was moved looks the same as a study whose artifacts are on another disk on purpose.

    Args:
        experiment: MLflow's experiment.
        store: Folder of its database.
        owns: Whether a run with that identifier belongs to the experiment.
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

    Exception: a FINISHED run keeps its recorded address if its folder exists there and not at home,
    for example if only the database was copied. Nothing is written to such an address.

    Args:
        home: Home of the study.
        run_id: The run.
        status: Its status in MLflow.
        recorded: Its artifact URI in MLflow.
        held: Identifiers of the runs with a folder at home.
        exists: Whether a folder exists.
    """
    here = f"{home.uri}/{run_id}/{ARTIFACTS}"
    former = local_path(recorded) if recorded != here else None
    if former is None or former.parts[-2:] != (run_id, ARTIFACTS):
        return recorded
    if status == "FINISHED" and run_id not in held and exists(former):
        return recorded
    return here


def _tails(path: Path) -> Iterator[str]:
    """The suffixes of a path, longest first, without its root."""
    names = path.parts[1:]
    for start in range(len(names)):
        yield str(PurePosixPath(*names[start:]))
