"""What the docs show works as they show it."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pandas as pd
import pytest

from rfray.analysis import analyze, load_report
from rfray.driver.sweep_run import prepared, run_sweep
from rfray.engine.drive import Watcher
from rfray.engine.executor import InProcessExecutor
from rfray.engine.frontier import State
from rfray.plan import make_plan
from rfray.plugins import use_plugin_files
from rfray.storage import storage_at
from rfray.study.sweep_file import load_study
from rfray.tracking import Ledger

DOCS = Path(__file__).resolve().parent.parent / "docs"


ONLY_TRAINING = [
    f"{stage}=false" for stage in ("prune", "finetune", "hessian", "cka", "importance")
]


def documented_file(path, language="python"):
    """The file that docs/extending.md shows under a path."""
    text = (DOCS / "extending.md").read_text()
    (code,) = re.findall(rf"```{language}\n# {re.escape(path)}\n(.*?)```", text, re.DOTALL)
    return code


def states_of(plan, storage):
    watcher = Watcher(ended=lambda ending: None, looked=lambda view: None)
    with prepared(plan, storage) as ready:
        return set(run_sweep(ready, storage, InProcessExecutor, watcher).states.values())


@pytest.fixture
def documented_plugin(tmp_path):
    """Puts a file of docs/extending.md beside the sweep file; the override that lists it."""

    def put(path):
        (tmp_path / Path(path).name).write_text(documented_file(path))
        return f"plugins=[{Path(path).name}]"

    yield put
    use_plugin_files({})


def test_the_documented_stage_can_be_listed_as_a_file(tiny_sweep, tmp_path, documented_plugin):
    listed = documented_plugin("my-norms/my_norms.py")
    plan = make_plan(load_study(str(tiny_sweep), [*ONLY_TRAINING, listed, "weight_norm={}"]))
    storage = storage_at(str(tmp_path / "results"), None)
    assert states_of(plan, storage) == {State.DONE}
    runs = {run.name: run for run in Ledger(storage.tracking_uri).runs("tiny")}
    norms = [runs[f"vgg19_rf-digits-k5-seed{seed}/weight_norm"].metrics for seed in (0, 1)]
    assert all(norm["weight_norm"] > 1 for norm in norms)
    assert norms[0] != norms[1]

    # And its table is one entry in a report file.
    (tmp_path / "weights.yaml").write_text(documented_file("my-norms/weights.yaml", "yaml"))
    report, out = load_report(tmp_path / "weights.yaml"), tmp_path / "out"
    analysis = analyze(Ledger(storage.tracking_uri), "tiny", report, out)
    assert analysis.gaps == ()
    (row,) = pd.read_csv(out / "tables" / "weights.csv").to_dict("records")
    assert (row["metric"], row["n"], row["n_planned"]) == ("norm", 2, 2)
    assert row["mean"] == pytest.approx(sum(norm["weight_norm"] for norm in norms) / 2)


def test_the_documented_network_is_one_file(tiny_sweep, tmp_path, documented_plugin):
    listed = [documented_plugin("plain_cnn.py"), "axes.arch=[plain_cnn]"]
    plan = make_plan(load_study(str(tiny_sweep), [*ONLY_TRAINING, *listed]))
    assert plan.cells[0].geometry.receptive_field > 3
    assert states_of(plan, storage_at(str(tmp_path / "results"), None)) == {State.DONE}


def test_the_documented_network_that_cannot_be_read_is_planned_beside_another(
    tmp_path, monkeypatch
):
    (tmp_path / "my_vit.py").write_text(documented_file("my_vit.py"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RFRAY_NETWORKS", "")
    arch = "axes.arch=[torchvision:resnet18, my_vit.py:tiny_vit]"
    study = load_study("quickstart", [arch, "axes.dataset=['digits@8']", "axes.kernel_size=[1]"])
    plan = make_plan(study)
    assert [cell.geometry is None for cell in plan.cells] == [False, False, True, True]
    assert set(plan.left_out["my_vit.py:tiny_vit"]) == {
        *("cka", "barrier", "erf", "probe", "saturation", "importance")
    }


def test_the_documented_knob_is_one_file_and_its_code_is_in_the_keys(
    tiny_sweep, tmp_path, documented_plugin
):
    listed = [documented_plugin("blur.py"), "axes.kernel_size=null", "axes.seed=[0]"]
    asked = ["axes.knob=[pool, blur]", "axes.receptive_field=[200]"]

    def planned():
        return make_plan(load_study(str(tiny_sweep), [*ONLY_TRAINING, *listed, *asked]))

    plan = planned()
    pool, blur = plan.cells
    assert (pool.cell.knob, blur.cell.turned) == ("pool", ("blur", 10))
    assert blur.geometry.receptive_field == 200
    assert states_of(plan, storage_at(str(tmp_path / "results"), None)) == {State.DONE}
    path = tmp_path / "blur.py"
    path.write_text(path.read_text().replace("0:\n        return", "0:  # edited\n        return"))
    again = planned()
    assert again.cells[0].keys == pool.keys
    assert not set(again.cells[1].keys) & set(blur.keys)


def test_the_documented_data_set_is_one_file(tiny_sweep, tmp_path, documented_plugin):
    listed = [documented_plugin("digit_parity.py"), "axes.dataset=[digit_parity]"]
    plan = make_plan(load_study(str(tiny_sweep), [*ONLY_TRAINING, *listed]))
    storage = storage_at(str(tmp_path / "results"), None)
    assert states_of(plan, storage) == {State.DONE}
    (run, *_) = Ledger(storage.tracking_uri).runs("tiny")
    assert run.metrics["test_accuracy"] > 50


def test_the_documented_report_file_is_one(tmp_path):
    text = (DOCS / "analysis.md").read_text()
    (report,) = re.findall(r"```yaml\n(title: My report\n.*?)```", text, re.DOTALL)
    path = tmp_path / "report.yaml"
    path.write_text(report)
    shutil.copy(DOCS.parent / "analysis" / "published.csv", tmp_path)
    assert [table.id for table in load_report(path).layout.tables] == ["small"]


def test_every_shipped_sweep_is_a_study_that_can_be_planned():
    for path in (DOCS.parent / "sweeps").glob("*.yaml"):
        assert make_plan(load_study(str(path))).nodes
