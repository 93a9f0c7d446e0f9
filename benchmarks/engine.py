"""python benchmarks/engine.py: what the engine itself costs, on real Ray and real MLflow.

Cost: cells of five stages that do nothing (a training trial and four tasks that follow it), with
the embedded sqlite: milliseconds a stage, the driver's memory on the way, and a start on the
finished study. With `--cores 32` Ray believes in so many cores, whatever there are. Use of the
slots: 300 stages that sleep 0.5 to 3 s, on two slots, against Ray Tune as it is usually used, a
trial a cell that does the same five sleeps inside itself. Stages sleep, so that what is measured is
the scheduling and not a fight for two cores.
"""

from __future__ import annotations

import argparse
import itertools
import os
import random
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

FOLDER = Path(__file__).parent
STAGES = FOLDER / "empty_stages"
COST_RESULTS = FOLDER / "results" / "engine.md"
PRETENDED_RESULTS = FOLDER / "results" / "engine_pretended_cores.md"
POINTS = 20
"""At which the cost is looked at on the way."""
SLOTS_RESULTS = FOLDER / "results" / "slots.md"
RATES = [0.5, 0.6, 0.7, 0.8]
SLOTS = 2
SWEEP = """\
name: {name}
axes: {{dataset: [digits], arch: [vgg19_rf], kernel_size: [5], seed: {seeds}, width: [0.03125]}}
train: {{epochs: 1}}
prune: {{rates: {rates}}}
"""

if __name__ == "__main__" and os.environ.get("PYTHONPATH", "") != str(STAGES):
    # The workers' Python must find the sleeping stages too, so that it is said before any starts.
    os.environ["PYTHONPATH"] = str(STAGES)
    os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
    os.execv(sys.executable, [sys.executable, *sys.argv])

import psutil
from ray import tune
from side_by_side import print_and_write, versions
from sleeping import LONGEST_VARIABLE, seconds_of

from rfray.driver.sweep_run import prepared, run_sweep
from rfray.engine.ray_executor import RayExecutor
from rfray.engine.ray_start import settle_environment, start_ray
from rfray.engine.view import Ending, View, Watcher
from rfray.plan import Plan, make_plan
from rfray.storage import Storage, storage_at
from rfray.study.sweep_file import load_study


def study_of(folder: Path, name: str, cells: int) -> Plan:
    path = folder / f"{name}.yaml"
    path.write_text(SWEEP.format(name=name, seeds=list(range(cells)), rates=RATES))
    return make_plan(load_study(str(path)))


@contextmanager
def ray_for_a_while(cores: int | None = None) -> Iterator[None]:
    """Ray as a sweep starts it, or one that believes in so many cores."""
    import ray

    if cores is None:
        start_ray(None)
    else:
        settle_environment()
        ray.init("local", num_cpus=cores, include_dashboard=False, log_to_driver=False)
    try:
        yield
    finally:
        ray.shutdown()


def megabytes() -> float:
    return psutil.Process().memory_info().rss / 1e6


Look = tuple[float, float]
"""Seconds since the start, and the driver's memory in MB."""


def timed_sweep(
    plan: Plan, storage: Storage, look_at: dict[int, Look], cores: int | None = None
) -> float:
    """Seconds of a sweep; what it had cost after so many endings goes into `look_at`."""
    ended, started = 0, 0.0

    def count(_ending: Ending) -> None:
        nonlocal ended
        ended += 1
        if ended in look_at:
            look_at[ended] = time.perf_counter() - started, megabytes()

    def ignore(_view: View) -> None:
        pass

    with ray_for_a_while(cores), prepared(plan, storage) as ready:
        started = time.perf_counter()
        run_sweep(
            ready,
            storage,
            lambda: RayExecutor(plan.study.name, storage.tune),
            Watcher(count, ignore),
        )
        return time.perf_counter() - started


def nothing_to_do(plan: Plan, storage: Storage) -> float:
    """Seconds from a new process to `all runs are done`."""
    import subprocess

    path = Path(storage.root).parent / f"{plan.study.name}.yaml"
    started = time.perf_counter()
    answer = subprocess.run(
        [sys.executable, "-m", "rfray.sweep", str(path), "--storage", str(storage.root)],
        capture_output=True,
        text=True,
        check=True,
    )
    if f"all {len(plan.nodes)} runs are done" not in answer.stdout:
        raise RuntimeError(answer.stdout)
    return time.perf_counter() - started


def cost(folder: Path, cells: int, cores: int | None, curves: Path) -> list[list[str]]:
    plan = study_of(folder, "empty", cells)
    storage = storage_at(str(folder / "results"), None)
    stages = len(plan.nodes)
    looks = {stages * part // POINTS: (0.0, 0.0) for part in range(1, POINTS + 1)}
    seconds = timed_sweep(plan, storage, looks, cores)
    draw(looks, curves)
    again = nothing_to_do(plan, storage)
    rows = [
        ["stages", str(len(plan.nodes)), ""],
        ["milliseconds a stage", f"{1000 * seconds / stages:.1f}", "25"],
        ["seconds a trial of five", f"{seconds / cells:.2f}", "0.13"],
    ]
    rows += [
        [f"driver's memory after {count:,} stages, MB", f"{looks[count][1]:.0f}", ""]
        for count in (stages // 5, stages)
    ]
    return [*rows, ["a start on the finished study, s", f"{again:.1f}", "10"]]


def draw(looks: dict[int, Look], path: Path) -> None:
    """Milliseconds a stage since the point before, and the driver's memory, against stages done."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    counts = list(looks)
    seconds = [0.0, *(second for second, _ in looks.values())]
    figure, (above, below) = pyplot.subplots(2, sharex=True, figsize=(6, 5), layout="constrained")
    above.plot(
        counts,
        [1000 * (after - before) / counts[0] for before, after in itertools.pairwise(seconds)],
    )
    above.set(ylabel="milliseconds a stage", ylim=(0, None))
    below.plot(counts, [memory for _, memory in looks.values()])
    below.set(xlabel="stages done", ylabel="driver's memory, MB", ylim=(0, None))
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


def whole_cell(config: dict[str, int]) -> None:
    """A cell as one trial: five sleeps, one after the other."""
    time.sleep(seconds_of("train", config["seed"], {}))
    for rate in RATES:
        time.sleep(seconds_of("prune", config["seed"], {"rate": rate}))
    tune.report({"done": 1})


def plain_tune(folder: Path, cells: int) -> float:
    with ray_for_a_while():
        started = time.perf_counter()
        tune.Tuner(
            tune.with_resources(whole_cell, {"cpu": 1}),
            param_space={"seed": tune.grid_search(list(range(cells)))},
            tune_config=tune.TuneConfig(max_concurrent_trials=SLOTS, reuse_actors=True),
            run_config=tune.RunConfig(storage_path=str(folder / "tune"), verbose=0),
        ).fit()
        return time.perf_counter() - started


def use_of_slots(folder: Path, cells: int, longest: float) -> list[list[str]]:
    os.environ[LONGEST_VARIABLE] = str(longest)
    plan = study_of(folder, "sleeping", cells)
    useful = sum(
        seconds_of(node.stage, node.cells[0].seed, dict(node.variant))
        for node in plan.nodes.values()
    )
    # A storage of its own: the stages of the other part have the same keys, and would be reused.
    storage = storage_at(str(folder / "sleeping-results"), None)
    ours = timed_sweep(plan, storage, {})
    theirs = plain_tune(folder, cells)
    del os.environ[LONGEST_VARIABLE]
    return [
        [f"{len(plan.nodes)} stages on {SLOTS} slots: slots in use, rfray",
         f"{useful / (SLOTS * ours):.1%}", "95%"],
        ["the same inside plain Tune trials, no tracking", f"{useful / (SLOTS * theirs):.1%}", ""],
    ]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cells", type=int, default=1000)
    parser.add_argument("--cores", type=int, help="that Ray believes in; default those there are")
    parser.add_argument("--sleeping-cells", type=int, default=60)
    parser.add_argument("--longest", type=float, default=3.0, help="seconds that a stage sleeps")
    parser.add_argument("--part", choices=["cost", "slots"], action="append", help="default: both")
    options = parser.parse_args()
    random.seed(0)
    parts = options.part or ["cost", "slots"]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if "cost" in parts:
            results = PRETENDED_RESULTS if options.cores else COST_RESULTS
            page(
                results,
                "# Engine: what a stage costs beside its computing",
                f"--part cost --cells {options.cells}"
                + (f" --cores {options.cores}" if options.cores else ""),
                cost(folder, options.cells, options.cores, results.with_suffix(".png")),
            )
        if "slots" in parts:
            page(
                SLOTS_RESULTS,
                "# Engine: how much of the slots is used",
                f"--part slots --sleeping-cells {options.sleeping_cells} "
                f"--longest {options.longest:g}",
                use_of_slots(folder, options.sleeping_cells, options.longest),
            )


def page(path: Path, title: str, arguments: str, rows: list[list[str]]) -> None:
    print_and_write(
        path,
        title,
        f"`python benchmarks/engine.py {arguments}`; {versions()}, {os.cpu_count()} cores, sqlite.",
        ["", "measured", "wanted"],
        rows,
    )


if __name__ == "__main__":
    main()
