"""python benchmarks/drivers.py DATABASE: several drivers and studies in one store.

DATABASE is the URI of an empty database, such as
`postgresql+psycopg2://postgres@127.0.0.1:5432/rfray`. One driver runs a study of stages that do
nothing; then the store gets 10,000 runs of other people, and three drivers run a study each, all at
once. This is done through an MLflow server, started here on loopback, and in the database itself.
One driver with a sqlite file of its own is the measure that both are held against. Stages run in
the drivers' own processes (`--in-process`), so that what is measured is the store. Milliseconds a
stage are without the start, which is measured by itself, on the finished study.
"""

from __future__ import annotations

import argparse
import os
import resource
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from side_by_side import print_and_write, versions

from rfray.tracking import LedgerWriter, RunOpening

FOLDER = Path(__file__).parent
STAGES = FOLDER / "empty_stages"
RESULTS = FOLDER / "results" / "drivers.md"
SWEEP = """\
name: {name}
axes: {{dataset: [digits], arch: [vgg19_rf], kernel_size: [5], seed: {seeds}, width: [0.03125]}}
train: {{epochs: 1}}
prune: {{rates: [0.5, 0.6, 0.7, 0.8]}}
"""
STAGES_A_CELL = 5
PATIENCE_SECONDS = 120
MEASURED = (
    "milliseconds a stage",
    "of a driver's own core, milliseconds a stage",
    "a start on what is done, s",
)
NOW = 1_760_000_000_000


class Figures(NamedTuple):
    """Of all drivers together; in the order of `MEASURED`."""

    milliseconds: float
    core_milliseconds: float
    start: float


@contextmanager
def server(database: str, folder: Path) -> Iterator[str]:
    """The address of an MLflow server on a database."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port)),
            *("--backend-store-uri", database, "--workers", "2"),
            *("--no-serve-artifacts", "--default-artifact-root", (folder / "artifacts").as_uri()),
        ],
        env=os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    address = f"http://127.0.0.1:{port}"
    try:
        wait_for(address)
        yield address
    finally:
        process.terminate()
        process.wait()


def wait_for(address: str) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(f"{address}/health", timeout=5):
                return
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            time.sleep(0.5)
    raise TimeoutError(f"no server at {address}")


def runs_of_others(database: str, count: int) -> None:
    """Finished runs in experiments of other people, as many as they have of their own kind."""
    writer = LedgerWriter(database, "somebody-elses")
    for first in range(0, count, 500):
        with writer.together():
            for number in range(first, min(count, first + 500)):
                opening = RunOpening(f"run-{number}", {"mlflow.user": "somebody"}, {})
                run = writer.open_run(opening)
                values = [("loss", step, 1 / (step + 1), NOW + step) for step in range(5)]
                writer.end_run(run.run_id, "FINISHED", {}, values, {"learning_rate": 0.1})


def swept(names: Sequence[str], address: str, folder: Path, cells: int) -> float:
    """Seconds of so many drivers at once, a study each, from their start to the last one's end."""
    for name in names:
        text = SWEEP.format(name=name, seeds=list(range(cells)))
        (folder / f"{name}.yaml").write_text(text)
    started = time.perf_counter()
    drivers = [
        subprocess.Popen(
            [
                *(sys.executable, "-m", "rfray.sweep", str(folder / f"{name}.yaml")),
                *("--in-process", "--storage", str(folder / name), "--tracking-uri", address),
            ],
            cwd=folder,  # MLflow lays artifacts there, where no server says otherwise
            env=os.environ | {"PYTHONPATH": str(STAGES)},
            stdout=subprocess.PIPE,
            text=True,
        )
        for name in names
    ]
    for name, driver in zip(names, drivers, strict=True):
        said, _ = driver.communicate()
        if f"{name}: all {STAGES_A_CELL * cells} runs are done" not in said:
            raise RuntimeError(said)
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("database")
    parser.add_argument("--cells", type=int, default=100)
    parser.add_argument("--drivers", type=int, default=3)
    parser.add_argument("--others", type=int, default=10_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, server(options.database, Path(name)) as address:
        file = measured(["file"], f"sqlite:///{name}/file.db", Path(name), options.cells)
        places = {"an MLflow server": address, "the database itself": options.database}
        alone = {
            place: measured([f"alone-{number}"], uri, Path(name), options.cells)
            for number, (place, uri) in enumerate(places.items())
        }
        runs_of_others(options.database, options.others)
        together = {
            place: measured(
                [f"study-{number}-{other}" for other in range(options.drivers)],
                uri,
                Path(name),
                options.cells,
            )
            for number, (place, uri) in enumerate(places.items())
        }
    print_and_write(
        RESULTS,
        "# Several drivers in one store",
        f"`python benchmarks/drivers.py DATABASE --cells {options.cells} --drivers "
        f"{options.drivers} --others {options.others}`; {STAGES_A_CELL * options.cells:,} stages a "
        f"driver; {versions('mlflow')}, {os.cpu_count()} cores, "
        f"{options.database.partition(':')[0]}.",
        [
            "",
            "one driver, sqlite file",
            "one driver, empty store",
            f"{options.drivers} drivers, {options.others:,} runs of others",
        ],
        [
            [f"{what}, through {place}"]
            + [f"{figures[index]:.1f}" for figures in (file, alone[place], several)]
            for place, several in together.items()
            for index, what in enumerate(MEASURED)
        ],
    )


def measured(names: Sequence[str], address: str, folder: Path, cells: int) -> Figures:
    """A study of each name from its start to its end, and once more when all of it is done."""
    used = core_seconds_of_ended_processes()
    whole = swept(names, address, folder, cells)
    used_by_whole = core_seconds_of_ended_processes() - used
    start = swept(names, address, folder, cells)
    used_by_start = core_seconds_of_ended_processes() - used - used_by_whole
    stages = STAGES_A_CELL * cells * len(names)
    return Figures(
        1000 * (whole - start) / stages, 1000 * (used_by_whole - used_by_start) / stages, start
    )


def core_seconds_of_ended_processes() -> float:
    """Only the drivers: the server has not ended, and the database is no child of this process."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main()
