"""What the docs show works as they show it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import rfray.stages
from rfray.engine.drive import Watcher
from rfray.engine.executor import InProcessExecutor
from rfray.engine.frontier import State
from rfray.plan import make_plan
from rfray.stages.registry import stages
from rfray.storage import storage_at
from rfray.study import study_model
from rfray.sweep_file import load_study
from rfray.sweep_run import prepared, run_sweep
from rfray.tracking import Ledger

DOCS = Path(__file__).resolve().parent.parent / "docs"


@pytest.fixture
def documented_stage(tmp_path, monkeypatch):
    """The stage of docs/architecture.md, as a file in the package of stages."""
    text = (DOCS / "architecture.md").read_text()
    (code,) = re.findall(r"```python\n# rfray/stages/weight_norm\.py\n(.*?)```", text, re.DOTALL)
    folder = tmp_path / "stages"
    folder.mkdir()
    (folder / "weight_norm.py").write_text(code)
    monkeypatch.setattr(rfray.stages, "__path__", [*rfray.stages.__path__, str(folder)])
    for cached in (stages, study_model):
        cached.cache_clear()
    yield
    monkeypatch.undo()
    for cached in (stages, study_model):
        cached.cache_clear()


@pytest.mark.usefixtures("documented_stage")
def test_the_documented_stage_is_one_file_and_one_entry(tiny_sweep, tmp_path):
    only = [f"{stage}=false" for stage in ("prune", "finetune", "hessian", "cka", "importance")]
    plan = make_plan(load_study(str(tiny_sweep), [*only, "weight_norm={}"]))
    storage = storage_at(str(tmp_path / "results"), None)
    watcher = Watcher(ended=lambda ending: None, looked=lambda view: None)
    with prepared(plan, storage) as ready:
        frontier = run_sweep(ready, storage, InProcessExecutor, watcher)
    assert set(frontier.states.values()) == {State.DONE}
    runs = {run.name: run for run in Ledger(storage.tracking_uri).runs("tiny")}
    norms = [runs[f"vgg19_rf-digits-k5-seed{seed}/weight_norm"].metrics for seed in (0, 1)]
    assert all(norm["weight_norm"] > 1 for norm in norms)
    assert norms[0] != norms[1]


def test_every_shipped_sweep_is_a_study_that_can_be_planned():
    for path in (DOCS.parent / "sweeps").glob("*.yaml"):
        assert make_plan(load_study(str(path))).nodes
