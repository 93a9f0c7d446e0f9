"""Where a sweep keeps its files. Only this module knows the paths."""

import os
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from rfray.errors import UserError

DEFAULT_FOLDER = "rfray-results"
STORAGE_VARIABLE = "RFRAY_STORAGE"
TRACKING_VARIABLE = "MLFLOW_TRACKING_URI"


@dataclass(frozen=True)
class Storage:
    """The storage folder and its tracking store.

    Attributes:
        root: The folder, absolute.
        tracking_uri: MLflow's tracking URI, absolute.
    """

    root: Path
    tracking_uri: str

    @property
    def checkpoints(self) -> Path:
        """Folder of checkpoints."""
        return self.root / "checkpoints"

    @property
    def tune(self) -> Path:
        """Folder of Ray Tune's own records."""
        return self.root / "tune"

    @property
    def database(self) -> Path:
        """The MLflow database of this folder."""
        return self.root / "mlflow.db"

    @property
    def embedded(self) -> bool:
        """Whether the tracking store is the database in this folder."""
        return self.tracking_uri == _sqlite(self.root)

    @property
    def is_new(self) -> bool:
        """Whether the tracking store is the database in this folder, and does not exist yet."""
        return self.embedded and not self.database.is_file()

    def make(self) -> None:
        """Make the folder; UserError if it cannot be written."""
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            probe = self.root / ".rfray-can-write"
            probe.touch()
            probe.unlink()
        except OSError as error:
            raise UserError(
                f"the storage folder cannot be written: {error.strerror}",
                where=str(self.root),
                do="choose another with --storage DIR",
            ) from error


def storage_at(folder: str | Path | None, tracking_uri: str | None) -> Storage:
    """The storage for the options of the command line.

    Args:
        folder: `--storage`; None takes RFRAY_STORAGE, else `./rfray-results`.
        tracking_uri: `--tracking-uri`; None takes MLFLOW_TRACKING_URI, else a sqlite database in
            the folder.

    Raises:
        UserError: The address of the sqlite database cannot contain the folder's name.
    """
    chosen = folder or os.environ.get(STORAGE_VARIABLE) or DEFAULT_FOLDER
    root = Path(chosen).expanduser().resolve()
    uri = tracking_uri or os.environ.get(TRACKING_VARIABLE)
    if not uri:
        _refuse_other_in_an_address(root)
    return Storage(root, _absolute(uri) if uri else _sqlite(root))


def _refuse_other_in_an_address(root: Path) -> None:
    """In an address SQLAlchemy ends the path at `?` and decodes `%20`, and opens another file."""
    if "?" in str(root) or unquote(str(root)) != str(root):
        raise UserError(
            "the address of a database cannot contain the '?' or '%' of this folder's name",
            where=str(root),
            do="choose another with --storage DIR",
        )


def _absolute(uri: str) -> str:
    """A sqlite URI with an absolute path; other URIs unchanged."""
    scheme = "sqlite:///"
    return scheme + str(Path(uri[len(scheme) :]).resolve()) if uri.startswith(scheme) else uri


def _sqlite(root: Path) -> str:
    return f"sqlite:///{root / 'mlflow.db'}"
