"""python benchmarks/forecast.py: what `rfray plan --slots` foretells beside what then happens.

The quickstart's study with one of its seeds is run, so that there are finished runs to reckon from;
`rfray plan` foretells how long the rest takes on this machine's cores; the rest is run. Real Ray,
real MLflow, real training. The makespan is that of the runs: from where the first begins to compute
to where the last has ended.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from side_by_side import print_and_write, versions

from rfray.storage import storage_at
from rfray.tracking import Ledger, RunRecord

RESULTS = Path(__file__).parent / "results" / "forecast.md"


def sweep(storage: Path, *arguments: str) -> None:
    command = [sys.executable, "-m", "rfray.sweep", *arguments, "--storage", str(storage)]
    subprocess.run(command, check=True)


def foretold(storage: Path, slots: int, *arguments: str) -> float:
    """Seconds that the missing runs of a study take, as `rfray plan` says."""
    command = [sys.executable, "-m", "rfray.cli", "plan", *arguments, "--storage", str(storage)]
    command += ["--slots", str(slots), "--slot", "cpu", "--json"]
    answer = subprocess.run(command, check=True, capture_output=True, text=True)
    return float(json.loads(answer.stdout)["schedule"]["makespan_seconds"])


def finished(storage: Path, study: str) -> dict[str, RunRecord]:
    ledger = Ledger(storage_at(str(storage), None).tracking_uri)
    return {run.run_id: run for run in ledger.runs(study) if run.status == "FINISHED"}


def makespan(runs: list[RunRecord]) -> float:
    ends = [(run.end_time or 0) / 1000 for run in runs]
    starts = [end - float(run.tags["rfray.seconds"]) for run, end in zip(runs, ends, strict=True)]
    return max(ends) - min(starts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sweep", default="quickstart", help="with seeds 0 and 1")
    options = parser.parse_args()
    cores = os.cpu_count() or 1
    with tempfile.TemporaryDirectory() as name:
        storage = Path(name) / "results"
        sweep(storage, options.sweep, "axes.seed=[0]")
        before = finished(storage, options.sweep)
        expected = foretold(storage, cores, options.sweep)
        sweep(storage, options.sweep)
        new = [run for key, run in finished(storage, options.sweep).items() if key not in before]
    took = makespan(new)
    print_and_write(
        RESULTS,
        "# `rfray plan --slots` against a real run",
        f"`python benchmarks/forecast.py`: the second seed of {options.sweep}, {len(new)} runs "
        f"after {len(before)} finished ones; {versions()}, {cores} cores.",
        ["", "seconds", "of what it took"],
        [["foretold", f"{expected:.0f}", f"{expected / took:.1%}"], ["took", f"{took:.0f}", ""]],
    )


if __name__ == "__main__":
    main()
