"""Drivers as processes of their own, what they left behind, and the study that they run."""

from __future__ import annotations

import json
import os
import pickle
import signal
import sqlite3
import time
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess
from pathlib import Path

import forked
import psutil

from rfray import tracking
from rfray.files.artifacts import RESULT, local_path
from rfray.storage import storage_at
from rfray.tracking import Ledger

SWEEP = """\
name: faulty
axes: {dataset: [digits], arch: [vgg19_rf], kernel_size: [5], seed: [0, 1], width: [0.03125]}
train: {epochs: 6, batch_size: 32, images_per_epoch: 64, gradient_clip: 1.0}
prune: {rates: [0.5, 0.9]}
finetune: {epochs: 6, batch_size: 32, images_per_epoch: 32}
"""
RUNS = 10
RUNS_OF_A_CELL = 5

TRIAL = "ImplicitFunc.train"
"""The title of a worker of Ray Tune while it trains; that of another names the stage."""

ONE_NETWORK = "axes.seed=[0]"
LONG_TRAINING = "train.epochs=40"

_TIMES = "epoch_seconds"
"""The one metric that no two runs share."""


@dataclass
class Driver:
    """A running `rfray sweep`.

    Attributes:
        process: Its process.
        log: Where all that it prints goes.
    """

    process: BaseProcess
    log: Path

    @property
    def output(self) -> str:
        return self.log.read_text() if self.log.exists() else ""

    def send(self, number: int) -> None:
        os.kill(self.process.pid, number)

    def kill(self) -> None:
        """SIGKILL: no handler, no farewell."""
        self.send(signal.SIGKILL)
        self.process.join()

    def ended(self, timeout: float = 600) -> int:
        """Its exit code, once it has ended."""
        self.process.join(timeout)
        assert self.process.exitcode is not None, f"still running: {self.output}"
        return self.process.exitcode


def workers(above: int, doing: str) -> list[psutil.Process]:
    """Ray's workers below a process whose title, which names what they do, contains `doing`."""
    found = []
    for process in psutil.Process(above).children(recursive=True):
        try:
            title = " ".join(process.cmdline())
        except psutil.Error:
            continue
        if title.startswith("ray::") and doing in title:
            found.append(process)
    return found


def start_driver(folder: Path, *arguments: object, **environment: str) -> Driver:
    """`rfray sweep` on the study in `folder`, results in `folder/results`."""
    log = folder / "driver.log"
    (folder / "results").mkdir(exist_ok=True)
    tracking.make_database(folder / "results" / "mlflow.db")
    words = ["sweep", str(folder / "faulty.yaml"), "--storage", str(folder / "results")]
    environment = {**os.environ, **environment}
    process = forked.start(
        [*words, *map(str, arguments)], cwd=folder, out=log, err=log, environment=environment
    )
    return Driver(process, log)


def runs(folder: Path) -> list:
    """Every run of the study that the ledger holds."""
    storage = storage_at(str(folder / "results"), None)
    if not storage.database.is_file():
        return []
    ledger = Ledger(storage.tracking_uri)
    return list(ledger.runs("faulty")) if "faulty" in ledger.studies() else []


def result_of(run) -> dict:
    """The `result.json` of a run whose artifacts lie on this machine."""
    return json.loads((local_path(run.artifact_uri) / RESULT).read_text())


def statuses(folder: Path) -> Counter:
    return Counter(run.status for run in runs(folder))


@dataclass
class Results:
    """What a study left: by run name params, metrics by step, and digests of the artifacts."""

    params: dict = field(default_factory=dict)
    metrics: dict = field(default_factory=dict)
    digests: dict = field(default_factory=dict)


def results(found: list) -> Results:
    """The numbers of every FINISHED run among those found."""
    left = Results()
    for run in found:
        if run.status == "FINISHED":
            result = result_of(run)
            left.params[run.name] = run.params
            left.metrics[run.name] = {
                (entry["metric"], entry["step"]): entry["value"]
                for entry in result["measurements"]
                if entry["metric"] != _TIMES
            }
            left.digests[run.name] = result["digests"]
    return left


def of_a_cell(numbers: Results, cell: str) -> Results:
    """The numbers of the runs whose name contains `cell`."""
    return Results(
        {name: values for name, values in numbers.params.items() if cell in name},
        {name: values for name, values in numbers.metrics.items() if cell in name},
        {name: values for name, values in numbers.digests.items() if cell in name},
    )


EXPLODED = "exploded"


class _Bomb:
    """Makes a file when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self):
        return Path.touch, (self.marker,)


def plant_bomb(path: Path, folder: Path) -> None:
    """A pickle at `path` that, once loaded, makes `folder/exploded`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pickle.dumps(_Bomb(folder / EXPLODED)))


def wait_until(holds, driver: Driver | None = None, timeout: float = 600):
    """What `holds` returns once it is true; fails when the driver ends before."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        held = holds()
        if held:
            return held
        if driver is not None and not driver.process.is_alive():
            held = holds()
            assert held, f"the driver ended too soon: {driver.output}"
            return held
        time.sleep(0.05)
    raise AssertionError(f"it never came to that: {driver.output if driver else ''}")


@contextmanager
def locked(database: Path):
    """Hold a database so that nobody else can read or write it."""
    connection = sqlite3.connect(
        database, isolation_level=None, timeout=60, check_same_thread=False
    )
    connection.execute("BEGIN EXCLUSIVE")
    try:
        yield
    finally:
        connection.rollback()
        connection.close()
