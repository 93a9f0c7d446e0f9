"""What lies in the storage folder damaged, replaced, malicious, half written; the folder full."""

from __future__ import annotations

import multiprocessing
import os
import resource
import shutil
import subprocess
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from unittest import mock

import pytest
from faulty import EXPLODED, RUNS, SWEEP, plant_bomb, result_of, results, runs, wait_until
from in_process import sweep
from mlflow.tracking import MlflowClient

from rfray.engine.frontier import State
from rfray.engine.view import Watcher
from rfray.errors import UserError
from rfray.files.artifacts import RESULT, check_files, local_path
from rfray.plan import make_plan
from rfray.storage import storage_at
from rfray.study.sweep_file import load_study
from rfray.tracking import Ledger, store
from rfray.training.checkpoint import EpochRecord, save_checkpoint
from rfray.training.optimization import optimizer_for
from rfray.training.weights import initial_module

pytestmark = pytest.mark.xdist_group("storage")

TRAINING_ALONE = ("axes.seed=[0]", "prune=false", "finetune=false")
ONE_PRUNED = ("axes.seed=[0]", "prune.rates=[0.5]", "finetune=false")
TRAIN = "vgg19_rf-digits-k5-seed0/train"


def truncate(path, folder):
    os.truncate(path, path.stat().st_size // 2)


def flip_a_byte(path, folder):
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def remove(path, folder):
    path.unlink()


def bomb(path, folder):
    plant_bomb(path, folder)


def put_another_networks_in_place(path, folder):
    """With its result, which vouches for it."""
    sweep(folder, "axes.seed=[1]", *TRAINING_ALONE[1:], results="other")
    other = next((folder / "other").rglob(RESULT)).parent
    for name in (path.name, RESULT):
        shutil.copy(other / name, path.parent / name)


DAMAGES = [truncate, flip_a_byte, remove, bomb, put_another_networks_in_place]


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_damaged_weights_are_refused_and_computed_again_once_their_run_is_deleted(
    folder, undisturbed, survived, damage
):
    sweep(folder, *TRAINING_ALONE)
    trained = runs(folder)[0]
    damage(local_path(trained.artifact_uri) / "model.safetensors", folder)

    frontier = sweep(folder, *ONE_PRUNED)
    assert Counter(frontier.states.values()) == {State.DONE: 1, State.FAILED: 1}
    refused = next(run for run in runs(folder) if run.status == "FAILED")
    assert f"the train run {trained.run_id} cannot be read" in refused.tags["rfray.error"]
    assert not (folder / EXPLODED).exists()

    client = MlflowClient(storage_at(str(folder / "results"), None).tracking_uri)
    client.delete_run(trained.run_id)
    assert set(sweep(folder, *ONE_PRUNED).states.values()) == {State.DONE}
    assert_as_undisturbed(runs(folder), undisturbed, 2)
    survived(f"a checkpoint in its place: {damage.__name__.replace('_', ' ')}")


def assert_as_undisturbed(found, undisturbed, count):
    numbers = results(found)
    assert len(numbers.digests) == count
    assert numbers.digests.items() <= undisturbed.digests.items()
    assert numbers.metrics.items() <= undisturbed.metrics.items()
    assert numbers.params.items() <= undisturbed.params.items()


def checkpoint_of(plan, folder):
    """Where the study's only training leaves its checkpoint."""
    (key,) = plan.nodes
    return folder / "results" / "checkpoints" / key / "train.safetensors"


def another_cells_checkpoint(path, plan, folder):
    """A sound checkpoint, but of other work: it claims an epoch of its own."""
    node = next(iter(plan.nodes.values()))
    module = initial_module(node.cells[0].model_copy(update={"seed": 7}), "cpu")
    optimizer = optimizer_for(module, node.parameters)
    written = folder / "elsewhere" / path.name
    written.parent.mkdir()
    save_checkpoint(written, module, optimizer, [EpochRecord(1, {"train_loss": 0.0})])
    shutil.copy(written, path)


def a_truncated_one(path, plan, folder):
    another_cells_checkpoint(path, plan, folder)
    truncate(path, folder)


def a_bomb(path, plan, folder):
    bomb(path, folder)


@pytest.mark.parametrize("plant", [another_cells_checkpoint, a_truncated_one, a_bomb])
def test_training_refuses_a_checkpoint_that_is_not_its_own(folder, undisturbed, survived, plant):
    plan = make_plan(load_study(str(folder / "faulty.yaml"), TRAINING_ALONE))
    path = checkpoint_of(plan, folder)
    path.parent.mkdir(parents=True)
    plant(path, plan, folder)
    sweep(folder, *TRAINING_ALONE)
    assert_as_undisturbed(runs(folder), undisturbed, 1)
    assert not (folder / EXPLODED).exists()
    survived(f"an interrupted training's checkpoint replaced: {plant.__name__.replace('_', ' ')}")


@pytest.mark.parametrize("name", ["model.safetensors", RESULT])
def test_a_half_written_artifact_does_not_make_a_run_finished(folder, undisturbed, survived, name):
    sweep(folder, *TRAINING_ALONE)
    run = runs(folder)[0]
    client = MlflowClient(storage_at(str(folder / "results"), None).tracking_uri)
    client.update_run(run.run_id, status="RUNNING")
    truncate(local_path(run.artifact_uri) / name, folder)
    sweep(folder, *TRAINING_ALONE)
    assert [again.run_id for again in runs(folder)] == [run.run_id]
    assert runs(folder)[0].tags["rfray.attempt"] == "2"
    assert_as_undisturbed(runs(folder), undisturbed, 1)
    survived("an artifact half written")


class FullDisk:
    """The storage folder's file system without room: a small tmpfs, or a limit on files' size."""

    def __init__(self, results: Path, held: ExitStack):
        results.mkdir()
        self.filler = results / "filler"
        self.limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        mount = ["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(results)]
        self.mounted = subprocess.run(mount, capture_output=True, check=False).returncode == 0
        if self.mounted:
            held.callback(subprocess.run, ["umount", "-l", str(results)], check=True)

    def fill(self):
        if not self.mounted:
            resource.setrlimit(resource.RLIMIT_FSIZE, (4096, self.limits[1]))
            return
        with self.filler.open("wb", buffering=0) as file:
            for size in (2**20, 2**12, 1):
                try:
                    while True:
                        file.write(b"\0" * size)
                except OSError:
                    continue

    def clear(self):
        resource.setrlimit(resource.RLIMIT_FSIZE, self.limits)
        self.filler.unlink(missing_ok=True)


def make_without_end(path):
    """Make a database, but never give it its name: whenever it is killed, it was not finished."""
    with mock.patch.object(Path, "replace", lambda *_: time.sleep(600)):
        store.make_database(path)


def test_a_database_whose_making_is_killed_is_not_there_and_the_next_start_makes_it(
    tmp_path, survived
):
    path = tmp_path / "mlflow.db"
    making = multiprocessing.get_context("forkserver").Process(
        target=make_without_end, args=(path,)
    )
    making.start()
    wait_until(path.with_suffix(".partial").is_file)
    making.kill()
    making.join()
    assert not path.exists()
    store.make_database(path)
    assert Ledger(f"sqlite:///{path}").studies() == []
    survived("SIGKILL while the database is made")


def test_a_full_disk_fails_what_cannot_be_kept_and_corrupts_nothing(folder, undisturbed, survived):
    failed = []
    with ExitStack() as held:
        disk = FullDisk(folder / "results", held)

        def ended(ending):
            failed.extend([ending.outcome.reason] * (ending.outcome.status == "failed"))
            if not failed:
                disk.fill()

        def looked(view):
            # The ledger lies on the same disk: it waits, and is told of.
            if failed and view.outage:
                disk.clear()

        frontier = sweep(folder, watcher=Watcher(ended=ended, looked=looked))
        assert any("No space left" in reason or "too large" in reason for reason in failed)
        assert State.FAILED in frontier.states.values()
        disk.clear()
        for run in runs(folder):
            if run.status == "FINISHED":
                check_files(local_path(run.artifact_uri), result_of(run)["digests"])
        assert set(sweep(folder).states.values()) == {State.DONE}
        assert Counter(run.status for run in runs(folder)) == {"FINISHED": RUNS}
        assert results(runs(folder)) == undisturbed
    survived("the disk full")


NAMES = ["../up", "a/b", "/abs", "..", ".hidden", "a\\b", "a b", "", "a\nb"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("line", ["name: faulty", "[digits]", "[vgg19_rf]"])
def test_no_name_leads_out_of_the_storage_folder(tmp_path, name, line):
    sweep_file = tmp_path / "sweep.yaml"
    old = line.removeprefix("name: ").strip("[]")
    new = line.replace(old, repr(name).replace("'", '"'))
    sweep_file.write_text(SWEEP.replace(line, new, 1))
    with pytest.raises(UserError):
        make_plan(load_study(str(sweep_file)))
    assert [path.name for path in tmp_path.iterdir()] == ["sweep.yaml"]
