"""More epochs for a finished network: they begin where the shorter training ended, to the bit."""

from __future__ import annotations

import shutil

import pytest
from test_sweep import runs_of, sweep
from tiny_study import TINY_SWEEP

from rfray.cli import main
from rfray.engine.longer import begun
from rfray.plan import keys_of_fewer_epochs, make_plan
from rfray.storage import storage_at
from rfray.study.sweep_file import load_study
from rfray.tracking import DIGEST_TAG

ALONE = ("axes.seed=[0]", "prune=false", "finetune=false", "hessian=false", "cka=false",
         "importance=false")  # fmt: skip
CONSTANT = (*ALONE, "train.schedule=constant")
STEP = (*ALONE, "train.schedule=step", "train.milestones=[1]")
REMARK = "rfray.remark"


def training(tiny_sweep, *overrides):
    (node,) = make_plan(load_study(str(tiny_sweep), overrides)).nodes.values()
    return node


@pytest.mark.parametrize("epochs", [1, 2, 199, 200, 201])
def test_the_keys_of_fewer_epochs_are_those_that_such_a_study_has(tiny_sweep, epochs):
    longer = training(tiny_sweep, *CONSTANT, "train.epochs=250")
    shorter = training(tiny_sweep, *CONSTANT, f"train.epochs={epochs}")
    keys = dict(keys_of_fewer_epochs(longer))
    assert keys[epochs] == shorter.key
    assert list(keys) == sorted(keys, reverse=True)
    assert longer.key not in keys.values()


def metrics(run):
    return {name: value for name, value in run.metrics.items() if name != "epoch_seconds"}


@pytest.mark.parametrize("schedule", [CONSTANT, STEP], ids=["constant", "step"])
def test_they_are_the_numbers_and_weights_of_a_training_that_began_anew(
    tiny_sweep, tmp_path, schedule
):
    sweep(tiny_sweep, tmp_path / "one", *schedule, "train.epochs=2")
    sweep(tiny_sweep, tmp_path / "one", *schedule, "train.epochs=4")
    sweep(tiny_sweep, tmp_path / "other", *schedule, "train.epochs=4")
    longer, anew = (
        next(run for run in runs_of(tmp_path / name) if run.params["epochs"] == "4")
        for name in ("one", "other")
    )
    assert metrics(longer) == metrics(anew)
    assert REMARK not in anew.tags
    assert "Epochs 1 to 2 are those of the same training with fewer epochs" in longer.tags[REMARK]
    assert longer.tags[DIGEST_TAG] == anew.tags[DIGEST_TAG]


def test_the_longest_that_is_left_is_taken_and_nothing_where_none_is(tiny_sweep, tmp_path):
    checkpoints = storage_at(str(tmp_path), None).checkpoints
    node = training(tiny_sweep, *CONSTANT, "train.epochs=5")
    assert begun(node, checkpoints) is None
    keys = dict(keys_of_fewer_epochs(node))
    for epochs in (1, 3):
        (checkpoints / keys[epochs]).mkdir(parents=True)
        (checkpoints / keys[epochs] / "train.safetensors").touch()
    assert begun(node, checkpoints) == checkpoints / keys[3]
    shutil.rmtree(checkpoints / keys[3])
    assert begun(node, checkpoints) == checkpoints / keys[1]
    other = training(tiny_sweep, *CONSTANT, "train.epochs=5", "train.learning_rate=0.2")
    assert begun(other, checkpoints) is None


def told(capsys, *arguments):
    with pytest.raises(SystemExit) as end:
        main(list(arguments))
    assert end.value.code in (0, None)
    captured = capsys.readouterr()
    return " ".join((captured.out + captured.err).split())


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (CONSTANT, "1 of 1 trainings continue from epoch 1, which shorter ones have reached"),
        (ALONE, "1 of 1 trainings start from the beginning, although shorter ones reached epoch 1: "
                "with train.schedule cosine"),
        ((*CONSTANT, "train.checkpoint=best"), "train.checkpoint best needs the weights of"),
    ],
    ids=["constant", "cosine", "best"],
)  # fmt: skip
def test_the_plan_says_what_goes_on_and_why_not(tmp_path, capsys, settings, words):
    path, folder = tmp_path / "tiny.yaml", str(tmp_path / "results")
    path.write_text(TINY_SWEEP)
    sweep(path, folder, *settings)
    given = (str(path), *settings, "train.epochs=2", "--storage", folder)
    assert words in told(capsys, "plan", *given)


def test_a_checkpoint_that_was_cleaned_is_missed(tiny_sweep, tmp_path, capsys):
    folder = tmp_path / "results"
    sweep(tiny_sweep, folder, *CONSTANT)
    shutil.rmtree(storage_at(str(folder), None).checkpoints)
    given = (str(tiny_sweep), *CONSTANT, "train.epochs=2", "--storage", str(folder))
    words = "although shorter ones reached epoch 1: their checkpoints are gone"
    assert words in told(capsys, "plan", *given)


def test_what_is_to_be_done_anew_does_not_go_on(tiny_sweep, tmp_path, capsys):
    folder = str(tmp_path / "results")
    sweep(tiny_sweep, folder, *CONSTANT, "train.epochs=1")
    sweep(tiny_sweep, folder, *CONSTANT, "train.epochs=2")
    name = next(run.name for run in runs_of(folder) if run.params["epochs"] == "2")
    told(capsys, "redo", str(tiny_sweep), name, *CONSTANT, "train.epochs=2", "--storage", folder)
    sweep(tiny_sweep, folder, *CONSTANT, "train.epochs=2")
    done = [run for run in runs_of(folder) if run.params["epochs"] == "2"]
    assert [REMARK in run.tags for run in done] == [True, False]
