"""Facts that come from pictures: read once, then kept in a file until a picture file changes.

That file is in the folder of the prepared copies; the copy is written at the same time.
"""

import hashlib
import json
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

from filelock import FileLock

from rfray.data.dataset import Dataset, DatasetFacts, DatasetSource
from rfray.data.decoding import OpenSet, read
from rfray.errors import UserError
from rfray.files.atomic import write_atomically

_READING = "viewed-1"
"""Part of the state of files: raise it if pictures are read in another way."""

ENCODING = ("utf-8", "surrogateescape")
"""How any file name becomes bytes."""


@dataclass(frozen=True)
class Reading:
    """What is read, and how.

    Attributes:
        image_size: Side in pixels that pictures are scaled to; None does not scale.
        background: The background colour of pictures with transparent parts; None refuses them.
        opened: Opens the data set; UserError if a file is missing, damaged or half extracted.
        state: Gives a text that changes if a file changes, see `files_state`.
    """

    name: str
    folder: Path
    image_size: int | None
    background: str | None
    opened: Callable[[], OpenSet]
    state: Callable[[], str]

    @property
    def label(self) -> str:
        """The name, with the size that the pictures are scaled to."""
        return self.name if self.image_size is None else f"{self.name}-{self.image_size}px"

    def source(self, memory: Path, findings: tuple[str, ...] = ()) -> DatasetSource:
        """The data set; its facts are kept in a file of the folder `memory`.

        Args:
            memory: The folder.
            findings: What is known about the files before any is opened.

        Raises:
            UserError: See `opened`.
        """
        path = self._path(memory)
        path.parent.mkdir(parents=True, exist_ok=True)
        # Other processes of this machine wait: only one downloads, extracts and reads the files.
        with FileLock(path.with_suffix(".lock")):
            facts = _recalled(path, self.state()) or _learnt(path, self)
        facts = replace(facts, findings=(*findings, *facts.findings))
        return DatasetSource(facts, partial(self._read_as_planned, facts))

    def _path(self, folder: Path) -> Path:
        place = hashlib.blake2b(str(self.folder).encode(*ENCODING), digest_size=6).hexdigest()
        on_colour = "" if self.background is None else f"-on-{self.background.removeprefix('#')}"
        return folder / f"{self.label}{on_colour}-{place}.json"

    def _read_as_planned(self, facts: DatasetFacts) -> Dataset:
        """All pictures; UserError if they do not have these facts."""
        dataset = read(self.opened(), self.image_size, self.background)
        if dataset.facts != facts:
            raise UserError(
                "its pictures have changed since the sweep was planned",
                where=self.name,
                do="start the sweep again",
            )
        return dataset


def _learnt(path: Path, reading: Reading) -> DatasetFacts:
    # This imports PyTorch, which a plan does not need if the facts are known.
    from rfray.data.cache import prepare

    opened = reading.opened()  # which extracts archives
    state = reading.state()
    dataset = read(opened, reading.image_size, reading.background)
    prepare(DatasetSource(dataset.facts, lambda: dataset))
    write_atomically(path, json.dumps({"state": state, "facts": asdict(dataset.facts)}))
    return dataset.facts


def _recalled(path: Path, state: str) -> DatasetFacts | None:
    """The facts that were kept for this state of the files; None if there are none."""
    try:
        document = json.loads(path.read_text())
        if document["state"] != state:
            return None
        known = document["facts"]
        lists = {name: tuple(known[name]) for name in ("mean", "deviation", "findings")}
        return DatasetFacts(**{**known, **lists})
    except (OSError, ValueError, KeyError, TypeError):
        return None  # nothing is kept, or it cannot be read


def files_state(folder: Path, names: Iterable[str]) -> str:
    """Digest of the name, size and time of change of files below a folder."""
    content = hashlib.blake2b(_READING.encode(), digest_size=12)
    for name in names:
        status = (folder / name).stat()
        content.update(f"{name}\n{status.st_size}\n{status.st_mtime_ns}\n".encode(*ENCODING))
    return content.hexdigest()
