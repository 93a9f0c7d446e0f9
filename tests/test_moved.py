"""Results that were moved, copied or reached another way: found again, nothing computed anew."""

from __future__ import annotations

import hashlib
import json
import shutil
import sqlite3
import subprocess
from collections import Counter
from pathlib import Path

import pytest
from command_line import rfray, rfray_anew
from mlflow.cli import gc
from mlflow.tracking import MlflowClient
from tiny_study import TINY_SWEEP

from rfray.driver.lease import folder_lock
from rfray.driver.sweep_run import prepared, run_sweep
from rfray.engine.executor import InProcessExecutor
from rfray.engine.frontier import State
from rfray.engine.view import Watcher
from rfray.files.artifacts import RESULT, local_path
from rfray.plan import make_plan
from rfray.storage import storage_at
from rfray.study.sweep_file import load_study
from rfray.tracking import Ledger, RunOpening

pytestmark = pytest.mark.xdist_group("moved")

SMALL = ("prune.rates=[0.5]", "finetune=false", "hessian=false", "importance=false")
"""Two networks of which each is trained and pruned, and their alignment: five runs."""

GROWN = (*SMALL, "axes.seed=[0,1,2]")
NEW = {
    "vgg19_rf-digits-k5-seed2/train",
    "vgg19_rf-digits-k5-seed2/prune-0.5",
    "vgg19_rf-digits-k5/cka",
}
"""What a third seed adds; the alignment reads the two networks that were there before."""

RUNS, RUNS_GROWN = 5, 8


def sweep(sweep_file, folder, *overrides, tracking_uri=None):
    """Run what is missing; names of the runs that were computed."""
    storage = storage_at(str(folder), tracking_uri)
    computed = []
    watcher = Watcher(ended=lambda end: computed.append(end.node.name), looked=lambda view: None)
    plan = make_plan(load_study(str(sweep_file), overrides))
    with prepared(plan, storage) as ready:
        frontier = run_sweep(ready, storage, InProcessExecutor, watcher)
    assert set(frontier.states.values()) == {State.DONE}
    return computed


def database_uri(folder):
    return f"sqlite:///{folder}/mlflow.db"


def runs_of(folder, study="tiny"):
    return list(Ledger(database_uri(folder)).runs(study))


def recorded(folder):
    """Artifact URIs as the database says them, of experiments and of runs."""
    with sqlite3.connect(f"{(folder / 'mlflow.db').as_uri()}?mode=ro", uri=True) as connection:
        experiments = connection.execute(
            "SELECT name, artifact_location FROM experiments WHERE name != 'Default'"
        )
        runs = connection.execute("SELECT run_uuid, artifact_uri FROM runs")
        return dict(experiments.fetchall()), dict(runs.fetchall())


def seen_by_mlflow(folder, study="tiny"):
    """What a client of MLflow that knows nothing of rfray finds of each run's artifacts."""
    client = MlflowClient(database_uri(folder))
    experiment = client.get_experiment_by_name(study).experiment_id
    return {
        run.info.run_name: {entry.path for entry in client.list_artifacts(run.info.run_id)}
        for run in client.search_runs([experiment])
    }


def files(folder):
    """Every file below a folder, by its content; what a sweep locks aside."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file() and path.suffix != ".lock"
    }


def cleaned_by_mlflow(words):
    """`mlflow gc`, in a process of its own: it leaves its tracking URI in the environment."""
    gc.main(words)


def forget_the_store(folder):
    """As rfray left a store before experiments said where their store was."""
    with sqlite3.connect(folder / "mlflow.db") as connection:
        connection.execute("DELETE FROM experiment_tags WHERE key = 'rfray.store'")


@pytest.fixture(scope="module")
def gone(tmp_path_factory):
    """Results that were made at a place where there is nothing any more."""
    folder = tmp_path_factory.mktemp("made")
    (folder / "tiny.yaml").write_text(TINY_SWEEP)
    assert len(sweep(folder / "tiny.yaml", folder / "results", *SMALL)) == RUNS
    return shutil.move(folder / "results", tmp_path_factory.mktemp("kept") / "results")


@pytest.fixture
def moved(gone, tmp_path):
    """Moves those results to a place of that name."""

    def to(name):
        return Path(shutil.copytree(gone, tmp_path / name))

    return to


@pytest.mark.parametrize("older", [False, True], ids=["", "of an older rfray"])
@pytest.mark.parametrize("name", ["elsewhere", "an other disk/50% of #1, über"])
def test_a_moved_study_grows_by_what_is_new(tiny_sweep, moved, name, older):
    folder = moved(name)
    if older:
        forget_the_store(folder)
    before, (_, were) = runs_of(folder), recorded(folder)
    made = local_path(next(iter(were.values()))).parents[3]

    assert set(sweep(tiny_sweep, folder, *GROWN)) == NEW

    runs = runs_of(folder)
    assert Counter(run.status for run in runs) == {"FINISHED": RUNS_GROWN}
    assert [run.run_id for run in runs[:RUNS]] == [run.run_id for run in before]
    assert {local_path(run.artifact_uri).parents[2] for run in runs} == {folder / "artifacts"}
    assert all((local_path(run.artifact_uri) / RESULT).is_file() for run in runs)
    assert {RESULT, "model.safetensors"} <= seen_by_mlflow(folder)["vgg19_rf-digits-k5-seed0/train"]
    assert not made.exists()


def test_moved_twice_unopened_in_between_or_opened(tiny_sweep, moved, tmp_path):
    first = moved("first")
    second = Path(shutil.move(first, tmp_path / "second"))
    assert sweep(tiny_sweep, second, *SMALL) == []
    third = Path(shutil.move(second, tmp_path / "third"))
    assert set(sweep(tiny_sweep, third, *GROWN)) == NEW
    assert all(RESULT in found for found in seen_by_mlflow(third).values())
    assert not first.exists()
    assert not second.exists()


def test_moved_up_into_the_folder_that_held_it(tiny_sweep, tmp_path):
    inner = tmp_path / "project" / "results"
    sweep(tiny_sweep, inner, *SMALL)
    for path in inner.iterdir():
        shutil.move(path, inner.parent / path.name)
    inner.rmdir()
    assert set(sweep(tiny_sweep, inner.parent, *GROWN)) == NEW
    assert not inner.exists()


@pytest.mark.parametrize("command", ["status", "plan", "analyze"])
def test_any_command_has_mlflow_find_the_artifacts_and_says_so(
    tiny_sweep, tiny_report, moved, command
):
    folder = moved("elsewhere")
    assert not any(seen_by_mlflow(folder).values())
    words = [command, tiny_report] if command == "analyze" else [command, tiny_sweep, *SMALL]

    first = rfray(*words, "--storage", folder, "--json", cwd=folder.parent)
    assert first.returncode == 0, first.stderr
    json.loads(first.stdout)
    assert first.stderr.strip() == (
        "note: the artifacts of 'tiny' were moved: MLflow now looks for them in "
        f"{folder}/artifacts/tiny"
    )
    assert all(RESULT in found for found in seen_by_mlflow(folder).values())

    kept = files(folder)
    assert rfray(*words, "--storage", folder, "--json", cwd=folder.parent).stderr == ""
    assert {k: v for k, v in files(folder).items() if not k.startswith("analysis/")} == {
        k: v for k, v in kept.items() if not k.startswith("analysis/")
    }


@pytest.mark.parametrize("option", ["--storage", "--tracking-uri"])
def test_analyze_finds_the_artifacts_from_either_option_alone(moved, tiny_report, tmp_path, option):
    folder = moved("elsewhere")
    given = {"--storage": folder, "--tracking-uri": database_uri(folder)}[option]
    analysed = rfray("analyze", tiny_report, option, given, "--out", "out", "--json", cwd=tmp_path)
    assert analysed.returncode == 0, analysed.stderr
    assert "has no artifact" not in json.dumps(json.loads(analysed.stdout)["missing"])
    assert any("cka" in path.name for path in (tmp_path / "out").rglob("*.png"))


def test_a_store_that_may_only_be_read_is_read(tiny_sweep, tiny_report, moved, tmp_path, mounted):
    folder, way = moved("elsewhere"), tmp_path / "read-only"
    mounted(folder, way)
    subprocess.run(["mount", "-o", "remount,bind,ro", str(way)], check=True)
    kept = files(folder)
    status = rfray("status", tiny_sweep, *SMALL, "--storage", way, "--json", cwd=tmp_path)
    assert json.loads(status.stdout)["totals"]["done"] == RUNS, status.stderr
    analysed = rfray(
        "analyze", tiny_report, "--storage", way, "--out", "out", "--json", cwd=tmp_path
    )
    missing = json.dumps(json.loads(analysed.stdout)["missing"])
    assert "has no artifact" not in missing, analysed.stderr
    assert status.stderr == analysed.stderr == ""
    assert files(folder) == kept


@pytest.fixture
def mounted():
    """Mounts a folder at a second path, as another machine or a container does."""
    mounts = []

    def mount(folder, path):
        path.mkdir()
        command = ["mount", "--bind", str(folder), str(path)]
        if subprocess.run(command, capture_output=True, check=False).returncode != 0:
            pytest.skip("no folder can be mounted a second time here")
        mounts.append(path)

    yield mount
    for path in mounts:
        subprocess.run(["umount", "-l", str(path)], check=True)


def test_two_paths_to_one_folder_are_one_place(tiny_sweep, tiny_report, tmp_path, mounted):
    folder, way = tmp_path / "results", tmp_path / "mnt"
    sweep(tiny_sweep, folder, *SMALL)
    mounted(folder, way)
    kept = recorded(folder)

    # Read by a second process while a sweep that came the first way holds the study.
    with prepared(make_plan(load_study(str(tiny_sweep), GROWN)), storage_at(str(folder), None)):
        status = rfray("status", tiny_sweep, *SMALL, "--storage", way, "--json", cwd=tmp_path)
        assert json.loads(status.stdout)["totals"]["done"] == RUNS, status.stderr
        analysed = rfray(
            "analyze", tiny_report, "--storage", way, "--out", "out", "--json", cwd=tmp_path
        )
        missing = json.dumps(json.loads(analysed.stdout)["missing"])
        assert "has no artifact" not in missing, analysed.stderr
    # Grown the second way: workers are told the path that the driver came by.
    assert set(sweep(tiny_sweep, way, *GROWN)) == NEW
    for path in (folder, way):
        runs = runs_of(path)
        assert {local_path(run.artifact_uri).parents[2] for run in runs} == {path / "artifacts"}
    assert all(RESULT in found for found in seen_by_mlflow(folder).values())
    # Neither way rewrote what the other had recorded.
    locations, addresses = recorded(folder)
    assert locations == kept[0]
    assert kept[1].items() <= addresses.items()


def test_a_symlink_left_at_the_old_place_serves_as_long_as_it_is_there(moved, tmp_path, tiny_sweep):
    folder = moved("elsewhere")
    assert sweep(tiny_sweep, folder, *SMALL) == []
    settled = recorded(folder)
    there = Path(shutil.move(folder, tmp_path / "there"))
    folder.symlink_to(there)
    assert sweep(tiny_sweep, there, *SMALL) == []
    assert recorded(there) == settled
    folder.unlink()
    assert sweep(tiny_sweep, there, *SMALL) == []
    assert all(RESULT in found for found in seen_by_mlflow(there).values())


def test_addresses_are_left_alone_while_a_sweep_works_on_the_study(moved, tiny_sweep):
    folder = moved("elsewhere")
    kept = recorded(folder)
    with folder_lock(folder, "tiny"):
        status = rfray("status", tiny_sweep, *SMALL, "--storage", folder, "--json", cwd=folder)
        assert json.loads(status.stdout)["totals"]["done"] == RUNS
        assert all((local_path(run.artifact_uri) / RESULT).is_file() for run in runs_of(folder))
    assert status.stderr == ""
    assert recorded(folder) == kept


@pytest.mark.parametrize("older", [False, True], ids=["", "of an older rfray"])
def test_a_copy_works_with_its_own_artifacts_alone(moved, tmp_path, tiny_sweep, older):
    original = moved("original")
    assert sweep(tiny_sweep, original, *SMALL) == []
    if older:
        forget_the_store(original)
    kept = files(original)
    copy = Path(shutil.copytree(original, tmp_path / "copy"))

    assert set(sweep(tiny_sweep, copy, *GROWN)) == NEW
    locations, addresses = recorded(copy)
    inside = copy.as_uri() + "/"
    assert all(uri.startswith(inside) for uri in [*locations.values(), *addresses.values()])
    # MLflow's own clean-up of the copy does not reach the original.
    client = MlflowClient(database_uri(copy))
    for run in runs_of(copy):
        client.delete_run(run.run_id)
    uri = database_uri(copy)
    words = ("--backend-store-uri", uri, "--tracking-uri", uri)
    assert rfray_anew(*words, cwd=tmp_path, run=cleaned_by_mlflow).returncode == 0
    assert not list((copy / "artifacts").rglob(RESULT))
    assert files(original) == kept


def test_a_copy_of_a_study_that_has_nothing_yet_leaves_the_original_empty(tmp_path, tiny_sweep):
    original = tmp_path / "original"
    plan = make_plan(load_study(str(tiny_sweep), SMALL))
    with prepared(plan, storage_at(str(original), None)) as ready:
        node = next(iter(plan.nodes.values()))
        ready.ledger.open_run(RunOpening(node.name, {"rfray.key": node.key}, params={}))
    copy = Path(shutil.copytree(original, tmp_path / "copy"))
    assert len(sweep(tiny_sweep, copy, *SMALL)) == RUNS
    assert not (original / "artifacts").exists()


def test_a_database_copied_alone_reads_the_originals_and_writes_beside_itself(
    moved, tmp_path, tiny_sweep
):
    original = moved("original")
    assert sweep(tiny_sweep, original, *SMALL) == []
    kept = files(original)
    copy = tmp_path / "copy"
    copy.mkdir()
    shutil.copy(original / "mlflow.db", copy)
    assert set(sweep(tiny_sweep, copy, *GROWN)) == NEW
    assert len(list((copy / "artifacts").rglob(RESULT))) == len(NEW)
    assert files(original) == kept


@pytest.mark.parametrize("last", ["by-name", "artifacts/other"])
def test_studies_move_together_and_what_lies_elsewhere_on_purpose_stays(tmp_path, tiny_sweep, last):
    folder, disk = tmp_path / "results", tmp_path / "big disk" / last
    train = ("axes.seed=[0]", "prune=false", "finetune=false", "cka=false", *SMALL[2:])
    sweep(tiny_sweep, folder, *train)
    sweep(tiny_sweep, folder, "name=second", *train)
    MlflowClient(database_uri(folder)).create_experiment("other", disk.as_uri())
    sweep(tiny_sweep, folder, "name=other", *train)
    assert len(list(disk.rglob(RESULT))) == 1
    _, before = recorded(folder)

    moved = Path(shutil.move(folder, tmp_path / "elsewhere"))
    assert len(sweep(tiny_sweep, moved, *train, "axes.seed=[0,1]")) == 1
    locations, addresses = recorded(moved)
    assert locations == {
        "tiny": f"{moved.as_uri()}/artifacts/tiny",
        "second": f"{moved.as_uri()}/artifacts/second",
        "other": disk.as_uri(),
    }
    (other,) = runs_of(moved, "other")
    assert addresses[other.run_id] == before[other.run_id] == other.artifact_uri
    assert all(RESULT in found for found in seen_by_mlflow(moved, "second").values())
    assert len(sweep(tiny_sweep, moved, "name=other", *train, "axes.seed=[0,2]")) == 1
    assert len(list(disk.rglob(RESULT))) == 2
    assert not folder.exists()


def test_what_a_driver_that_died_had_not_recorded_is_found_in_its_new_place(moved, tiny_sweep):
    folder = moved("elsewhere")
    run = runs_of(folder)[0]
    MlflowClient(database_uri(folder)).update_run(run.run_id, status="RUNNING")
    assert sweep(tiny_sweep, folder, *SMALL) == []
    assert Counter(run.status for run in runs_of(folder)) == {"FINISHED": RUNS}


def test_a_database_of_its_own_keeps_the_artifacts_beside_it_and_moves_with_them(
    tmp_path, tiny_sweep
):
    place = tmp_path / "tracking"
    place.mkdir()
    sweep(tiny_sweep, tmp_path / "scratch", *SMALL, tracking_uri=f"sqlite:///{place}/runs.db")
    place = Path(shutil.move(place, tmp_path / "other"))
    uri = f"sqlite:///{place}/runs.db"
    assert set(sweep(tiny_sweep, tmp_path / "scratch", *GROWN, tracking_uri=uri)) == NEW
    assert len(list((place / "artifacts" / "tiny").rglob(RESULT))) == RUNS_GROWN


def failure(tiny_sweep, folder):
    """Why the alignment of a grown study could not read a finished run."""
    storage = storage_at(str(folder), None)
    with prepared(make_plan(load_study(str(tiny_sweep), GROWN)), storage) as ready:
        silent = Watcher(ended=lambda end: None, looked=lambda view: None)
        run_sweep(ready, storage, InProcessExecutor, silent)
    (failed,) = [run for run in runs_of(folder) if run.status == "FAILED"]
    return failed.tags["rfray.error"]


@pytest.mark.parametrize("what", ["all artifacts", "a run's folder", "a file"])
def test_no_message_has_a_finished_run_deleted_whose_artifacts_may_lie_elsewhere(
    moved, tiny_sweep, what
):
    folder = moved("elsewhere")
    run = next(run for run in runs_of(folder) if run.name.endswith("seed0/train"))
    place = local_path(run.artifact_uri)
    absent = {
        "all artifacts": folder / "artifacts",
        "a run's folder": place,
        "a file": place / "model.safetensors",
    }[what]
    shutil.move(absent, folder / "aside")
    why = failure(tiny_sweep, folder)
    assert "is missing in " + str(folder / "artifacts") in why
    assert "bring its artifacts back to that folder" in why
    assert "delete" not in why
    # And once they are back, nothing but what failed is computed.
    if what == "all artifacts":
        shutil.copytree(folder / "aside", absent, dirs_exist_ok=True)
    else:
        shutil.move(folder / "aside", absent)
    assert sweep(tiny_sweep, folder, *GROWN) == ["vgg19_rf-digits-k5/cka"]


def test_a_damaged_file_is_to_be_put_back_before_its_run_is_given_up(moved, tiny_sweep):
    folder = moved("elsewhere")
    run = next(run for run in runs_of(folder) if run.name.endswith("seed0/train"))
    path = local_path(run.artifact_uri) / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    why = failure(tiny_sweep, folder)
    assert why.index("put the original back from a copy") < why.index("without a copy, delete")
