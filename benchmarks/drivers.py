"""python benchmarks/drivers.py DATABASE: several drivers and studies on one MLflow server.

DATABASE is the URI of an empty database, such as
`postgresql+psycopg2://postgres@127.0.0.1:5432/rfray`. A server is started on it, on loopback. First
one driver runs one study of stages that do nothing; then the store gets 10,000 runs of other
people, and three drivers run a study each, all at once. Both in the driver's own process
(`--in-process`), so that what is measured is the store. The last column is that of one driver in an
empty store times so much.
"""

from __future__ import annotations

import argparse
import os
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
NOW = 1_760_000_000_000


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
    parser.add_argument("--cells", type=int, default=60)
    parser.add_argument("--drivers", type=int, default=3)
    parser.add_argument("--others", type=int, default=10_000)
    options = parser.parse_args()
    stages = STAGES_A_CELL * options.cells
    several = [f"study-{number}" for number in range(options.drivers)]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with server(options.database, folder) as address:
            alone = swept(["alone"], address, folder, options.cells)
            alone_again = swept(["alone"], address, folder, options.cells)
            runs_of_others(options.database, options.others)
            alone_beside = swept(["alone"], address, folder, options.cells)
            together = swept(several, address, folder, options.cells)
            together_again = swept(several, address, folder, options.cells)
    everything = stages * options.drivers
    print_and_write(
        RESULTS,
        "# Several drivers on one server",
        f"`python benchmarks/drivers.py DATABASE --cells {options.cells} --drivers "
        f"{options.drivers} --others {options.others}`; "
        f"{versions('mlflow', 'ray')}, {os.cpu_count()} cores, "
        f"{options.database.partition(':')[0]}.",
        ["", "one driver, empty store", "several drivers, runs of others", "times"],
        [
            row("milliseconds a stage", 1000 * alone / stages, 1000 * together / everything),
            row("a start on the finished study, s", alone_again, together_again),
            row("the same start, one driver, beside runs of others, s", alone_again, alone_beside),
        ],
    )


def row(name: str, alone: float, together: float) -> list[str]:
    return [name, f"{alone:.1f}", f"{together:.1f}", f"{together / alone:.2f}"]


if __name__ == "__main__":
    main()
