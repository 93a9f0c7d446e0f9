"""python benchmarks/analysis.py: how long the analysis takes over 5,000 runs in MLflow.

Writes a study of 5,000 runs by the public schema through MLflow's own client into a sqlite store
(a folder given with --store is used again), then times what a user waits for: reading the frame,
and the whole of `rfray analyze` in a process of its own. 1,000 networks (2 architectures by 4
kernel sizes by 125 seeds), each trained, then pruned and fine-tuned at two rates.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import product
from pathlib import Path

from mlflow.entities import Metric, Param
from mlflow.tracking import MlflowClient

from rfray.analysis import read_frame
from rfray.tracking import Ledger, make_database

RESULTS = Path(__file__).parent / "results" / "analysis.md"
STUDY = "five-thousand"
RUNS = 5_000
EPOCHS = 10
RATES = (0.5, 0.9)
AXES = {
    "dataset": ["cifar10"],
    "arch": ["vgg19_rf", "resnet50"],
    "kernel_size": [2, 3, 4, 5],
    "width": [1.0],
    "seed": list(range(125)),
}
SLOPE = {"vgg19_rf": 178, "resnet50": 105}
START = 1_760_000_000_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--store", type=Path, help="folder of the store; default: a fresh one")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        store = (arguments.store or Path(scratch)).resolve()
        store.mkdir(parents=True, exist_ok=True)
        write_study(store)
        RESULTS.write_text(report(measure(store, Path(scratch) / "out")))
    print(RESULTS.read_text())


def write_study(store: Path) -> None:
    """The study's runs, unless an earlier call wrote them all."""
    make_database(store / "mlflow.db")
    client = MlflowClient(tracking_uri=f"sqlite:///{store / 'mlflow.db'}")
    experiment = client.get_experiment_by_name(STUDY)
    if experiment is None:
        document = {"name": STUDY, "axes": AXES, "train": {}, "prune": {"rates": RATES}}
        document["finetune"] = {}
        identifier = client.create_experiment(
            STUDY,
            artifact_location=(store / "artifacts").as_uri(),
            tags={"rfray.study": json.dumps(document)},
        )
    else:
        identifier = experiment.experiment_id
    written = sum(1 for _ in Ledger(client.tracking_uri).runs(STUDY))
    for number, (stage, params) in enumerate(stages()):
        if written <= number < RUNS:
            write_run(client, identifier, stage, params)


def stages() -> Iterator[tuple[str, dict]]:
    """(stage, params) of one run after the other."""
    for arch, kernel_size, seed in product(AXES["arch"], AXES["kernel_size"], AXES["seed"]):
        cell = {
            "dataset": "cifar10",
            "arch": arch,
            "width": 1.0,
            "kernel_size": kernel_size,
            "seed": seed,
            "receptive_field": 3 + SLOPE[arch] * (kernel_size - 1),
        }
        yield "train", cell
        for rate in RATES:
            yield "prune", {**cell, "rate": rate}
            yield "finetune", {**cell, "rate": rate}


def write_run(client: MlflowClient, experiment: str, stage: str, params: dict) -> None:
    tags = {"rfray.stage": stage, "rfray.key": json.dumps([stage, params])[:250]}
    run = client.create_run(experiment, start_time=START, tags=tags)
    dense = 90.0 - params["kernel_size"] + params["seed"] / 100
    drop = 10 * params.get("rate", 0.0)
    metrics = {"test_accuracy": dense - drop}
    if stage == "train":
        metrics["train_loss"] = 0.5
    else:
        share = params["rate"]
        metrics |= {"accuracy_drop": drop, "sparsity": share, "live_sparsity": share}
    client.log_batch(
        run.info.run_id,
        metrics=[
            Metric(metric, value, START + step, step)
            for metric, value in metrics.items()
            for step in range(EPOCHS if stage == "train" else 1)
        ],
        params=[Param(name, str(setting)) for name, setting in params.items()],
    )
    client.set_terminated(run.info.run_id, end_time=START + 60_000)


def measure(store: Path, out: Path) -> dict[str, float]:
    """Seconds of each part."""
    ledger = Ledger(f"sqlite:///{store / 'mlflow.db'}")
    ledger.studies()  # a store's first connection is not the analysis
    began = time.perf_counter()
    frame = read_frame(ledger, STUDY)
    read = time.perf_counter() - began
    if len(frame.rows) != RUNS:
        raise SystemExit(f"the store holds {len(frame.rows)} runs, not {RUNS}")
    command = [sys.executable, "-m", "rfray.cli", "analyze", "--study", STUDY]
    began = time.perf_counter()
    subprocess.run([*command, "--storage", str(store), "--out", str(out)], check=True)
    return {"frame": read, "rfray analyze": time.perf_counter() - began}


def report(seconds: dict[str, float]) -> str:
    return "\n".join(
        [
            f"`python benchmarks/analysis.py`: {RUNS:,} runs in a sqlite store, "
            f"Python {platform.python_version()}, {platform.machine()}, "
            "other work on the same machine.",
            "",
            "| | seconds |",
            "|---|--:|",
            f"| `rfray.analysis.read_frame` | {seconds['frame']:.1f} |",
            f"| `rfray analyze` from start to end | {seconds['rfray analyze']:.1f} |",
            "",
        ]
    )


if __name__ == "__main__":
    main()
