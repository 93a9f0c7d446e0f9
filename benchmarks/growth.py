"""python benchmarks/growth.py: what a study's size costs beside its work, and how that grows.

Each part is done at three sizes, each twice the one before; the last column says what a doubling
multiplied the time by. `plan` and its forecast read no store: the paper's networks with more seeds,
in a process of its own each, as a user starts them. The driver is rfray's own, at 256 slots, with
jobs that end at once and a ledger that keeps nothing: what is left is what it does for one run,
from its start to its end, while all the others wait. `status`, `analyze` and the start of a sweep
read finished runs from sqlite, written as a driver writes them.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path

from side_by_side import print_and_write, versions

from rfray.engine.drive import Driver
from rfray.engine.executor import Ended, Event
from rfray.engine.job import Job, Outcome
from rfray.engine.places import GIB, Machine, Occupancy
from rfray.engine.prospects import Bundle
from rfray.engine.records import run_opening, study_document
from rfray.engine.scribe import Scribe
from rfray.engine.standing import Standing
from rfray.engine.view import Watcher
from rfray.plan import Node, Plan, make_plan
from rfray.storage import storage_at
from rfray.study import Request
from rfray.study.sweep_file import load_study
from rfray.tracking import LedgerWriter, RunOpening, RunRecord, make_database

RESULTS = Path(__file__).parent / "results" / "growth.md"
SLOTS = 256
PAPER_NETWORKS = 16  # a seed of the paper's study
SMALL = (
    "prune.rates=[0.5, 0.9]",
    "axes.dataset=[cifar10]",
    "hessian=false",
    "cka=false",
    "importance=false",
)
RUNS_A_SEED = 8 * 5
RUNS_A_TRANSACTION = 1000
EPOCHS = 10
START = 1_760_000_000_000


def seeds(count: int) -> str:
    return f"axes.seed={list(range(count))}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--networks", type=int, default=10_000, help="of the largest plan")
    parser.add_argument("--runs", type=int, default=5_000, help="of the largest store")
    parser.add_argument("--finished", type=int, default=50_000, help="of the largest start")
    parser.add_argument("--driven", type=int, default=20_000, help="runs of the largest drive")
    parser.add_argument("--store", type=Path, help="folder of the stores; default: fresh ones")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        rows = [
            *growth("rfray plan", "networks", halves(options.networks), planned),
            *growth(f"rfray plan --slots {SLOTS}", "networks", halves(options.networks), foretold),
            *growth("driver, ms a run", "runs", halves(options.driven), driven, per_run=True),
        ]
        store = (options.store or Path(scratch)).resolve()
        for runs in halves(options.runs):
            write_store(store / str(runs), runs)
        reading = [("rfray status", status), ("rfray analyze", analyzed)]
        for name, command in reading:
            call = in_store(command, store, Path(scratch))
            rows += growth(name, "runs", halves(options.runs), call)
        for runs in halves(options.finished):
            write_store(store / str(runs), runs)
        call = in_store(started, store, Path(scratch))
        rows += growth("rfray sweep, all runs done", "runs", halves(options.finished), call)
    print_and_write(
        RESULTS,
        "# Time against size",
        f"`python benchmarks/growth.py`: seconds, one call each but for the driver's; 13 runs a "
        f"network in the plans. {versions('mlflow', 'ray')}, 2 cores.",
        ["", "size", "time", "times the half's"],
        rows,
    )


def halves(largest: int) -> list[int]:
    return [largest // 4, largest // 2, largest]


def growth(
    name: str,
    unit: str,
    sizes: Sequence[int],
    call: Callable[[int], float],
    *,
    per_run: bool = False,
) -> list[list[str]]:
    """A row for each size: what it took, and the ratio to the size before."""
    rows: list[list[str]] = []
    before = None
    for size in sizes:
        taken = call(size)
        shown = f"{taken * 1000:.2f} ms" if per_run else f"{taken:.1f} s"
        rows.append([name, f"{size:,} {unit}", shown, f"{taken / before:.2f}" if before else ""])
        print(*rows[-1], flush=True)
        before = taken
    return rows


def planned(networks: int, *more: str) -> float:
    study = ["paper", seeds(networks // PAPER_NETWORKS)]
    return timed(["rfray.cli", "plan"], *study, "--storage", "/nonexistent/results", *more)


def foretold(networks: int) -> float:
    return planned(networks, "--slots", str(SLOTS))


def timed(module: Sequence[str], *arguments: str) -> float:
    began = time.perf_counter()
    command = [sys.executable, "-m", *module, *arguments]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


def study_of(runs: int) -> list[str]:
    """A study of so many runs, as the command line takes it."""
    return ["paper", *SMALL, seeds(runs // RUNS_A_SEED), "name=growth"]


def small_plan(runs: int) -> Plan:
    name, *overrides = study_of(runs)
    return make_plan(load_study(name, overrides))


class InstantExecutor:
    """Every job ends as soon as it is looked for."""

    machines = dict.fromkeys(map(str, range(SLOTS)), Machine(Occupancy(cpus=16, gpus=1), 64 * GIB))
    prospects = None

    def __init__(self) -> None:
        self._ended: deque[Event] = deque()

    def want(self, bundles: Sequence[Bundle]) -> None:
        """Nobody can be asked."""

    def submit(self, job: Job, occupancy: Occupancy, request: Request, machine: str | None) -> None:
        """End it."""
        del occupancy, request, machine
        self._ended.append(Ended(Outcome(key=job.key, status="finished", seconds=60)))

    def events(self, timeout: float) -> list[Event]:
        """The next few ends."""
        if not self._ended:
            time.sleep(min(timeout, 0.001))
        return [self._ended.popleft() for _ in range(min(len(self._ended), 8))]

    def all_submitted(self) -> None:
        """Nobody waits for more."""

    def no_more(self, stage: str) -> None:
        """Nothing waits here."""

    def wake(self) -> None:
        """Nobody sleeps for long."""

    def close(self) -> None:
        """There is nothing to stop."""


class NoLedger:
    """Keeps nothing."""

    tracking_uri = "sqlite:////nowhere"

    def open_run(self, opening: RunOpening) -> RunRecord:
        """A run of that key."""
        return record(opening.tags["rfray.key"], opening.name)

    def log(self, *arguments: object) -> None:
        """Forget it."""

    def end_run(self, *arguments: object) -> None:
        """Forget it."""


def record(key: str, name: str) -> RunRecord:
    return RunRecord(
        run_id=key,
        name=name,
        status="RUNNING",
        start_time=START,
        end_time=None,
        params={},
        metrics={},
        tags={},
        artifact_uri=f"/nowhere/{key}",
    )


def driven(runs: int) -> float:
    """Seconds of the driver's own work for one run."""
    plan = small_plan(runs)
    executor = InstantExecutor()
    scribe = Scribe(lambda: None, executor.wake)
    silent = Watcher(ended=lambda ending: None, looked=lambda view: None)
    with tempfile.TemporaryDirectory() as checkpoints:
        driver = Driver(
            plan,
            Standing({}, {}, ()),
            NoLedger(),
            scribe,
            executor,
            silent,
            Path(checkpoints),
            "benchmark",
        )
        began = time.process_time()
        frontier = driver.run(lambda: False)
        taken = time.process_time() - began
    scribe.close(10)
    done = sum(counts.total() for counts in frontier.counts().values())
    if not frontier.finished or done != len(plan.nodes):
        raise SystemExit("the drive came to no end")
    return taken / done


def write_store(folder: Path, runs: int) -> None:
    """A study of so many finished runs, unless it is there."""
    if (folder / "whole").exists():
        return
    folder.mkdir(parents=True)
    storage = storage_at(str(folder), None)
    storage.make()
    make_database(storage.database)
    plan = small_plan(runs)
    ledger = LedgerWriter(storage.tracking_uri, plan.study.name)
    ledger.describe(study_document(plan))
    for nodes in batched(plan.nodes.values(), RUNS_A_TRANSACTION):
        with ledger.together():
            for node in nodes:
                write_run(ledger, node)
    (folder / "whole").touch()


def batched(nodes: Iterable[Node], length: int) -> Iterator[list[Node]]:
    left = iter(nodes)
    while some := list(islice(left, length)):
        yield some


def write_run(ledger: LedgerWriter, node: Node) -> None:
    opening = run_opening(node, None, "benchmark", None)
    drop = 10 * float(node.variant.get("rate", 0))
    accuracy = 90.0 - int(node.params["kernel_size"]) + int(node.params["seed"]) / 100 - drop
    metrics = {"test_accuracy": accuracy}
    if node.stage == "train":
        metrics["train_loss"] = 0.5
    else:
        metrics |= {"accuracy_drop": drop, "sparsity": drop / 10, "live_sparsity": drop / 10}
    ledger.end_run(
        ledger.open_run(opening).run_id,
        "FINISHED",
        {"rfray.hardware": "x86_64 CPU, 2 threads", "rfray.seconds": "60"},
        [
            (name, step, value, START + step)
            for name, value in metrics.items()
            for step in range(EPOCHS if node.stage == "train" else 1)
        ],
        opening.params,
    )


def in_store(
    command: Callable[[Path, int, Path], float], store: Path, scratch: Path
) -> Callable[[int], float]:
    return lambda runs: command(store / str(runs), runs, scratch / f"out-{runs}")


def started(store: Path, runs: int, out: Path) -> float:
    """Seconds of a sweep that finds all of its runs done."""
    del out
    return timed(["rfray.sweep"], *study_of(runs), "--storage", str(store))


def status(store: Path, runs: int, out: Path) -> float:
    del out
    return timed(["rfray.cli", "status"], *study_of(runs), "--storage", str(store))


def analyzed(store: Path, runs: int, out: Path) -> float:
    del runs
    return timed(
        ["rfray.cli", "analyze"], "--study", "growth", "--storage", str(store), "--out", str(out)
    )


if __name__ == "__main__":
    main()
