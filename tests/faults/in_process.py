"""A sweep of the faulty study in this process."""

from __future__ import annotations

from rfray.driver.sweep_run import prepared, run_sweep
from rfray.engine.executor import InProcessExecutor
from rfray.engine.view import Watcher
from rfray.plan import make_plan
from rfray.storage import storage_at
from rfray.study.sweep_file import load_study

SILENT = Watcher(ended=lambda ending: None, looked=lambda view: None)


def sweep(folder, *overrides, watcher=SILENT, results="results"):
    """Run what is missing, results in `folder/results`; where every node stands at the end."""
    plan = make_plan(load_study(str(folder / "faulty.yaml"), overrides))
    storage = storage_at(str(folder / results), None)
    with prepared(plan, storage) as ready:
        return run_sweep(ready, storage, InProcessExecutor, watcher)
