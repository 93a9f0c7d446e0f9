"""Weights that were dropped, and what else happens to a study: shared, grown, redone, older."""

from __future__ import annotations

import json
import shutil

import pytest
from safetensors.torch import load_file, save_file
from test_sharing import exit_code, quiet, runs_at, sweep
from tiny_study import TINY_SWEEP

from rfray.files.artifacts import RESULT, digest_of, file_digests, local_path
from rfray.plan import make_plan
from rfray.sharing import export_study, import_study, vetted
from rfray.sharing.packing import all_artifacts, without_weights
from rfray.storage import storage_at
from rfray.study.sweep_file import load_study
from rfray.tracking import DIGEST_TAG, TAKEN_FROM_STUDY_TAG, Ledger, LedgerWriter
from rfray.training.weight_files import CHANGES, INITIAL, INITIAL_NOTE, MODEL, WEIGHT_FILES
from rfray.training.weights import changed_state, initial_state

pytestmark = pytest.mark.xdist_group("weights-shared")

SMALL = ("axes.seed=[0]", "prune.rates=[0.5]", "finetune=false", "hessian=false", "cka=false")
TUNED = ("axes.seed=[0]", "prune.rates=[0.5]", "hessian=false", "cka=false", "importance=false")
CELL = "vgg19_rf-digits-k5-seed0"
TRAIN, PRUNE, FINETUNE = (f"{CELL}/{name}" for name in ("train", "prune-0.5", "finetune-0.5"))


def place_of(folder):
    return storage_at(str(folder / "results"), None)


def by_name(place, study="tiny"):
    return {run.name: run for run in runs_at(place, study) if "rfray.superseded" not in run.tags}


def holding(place, study="tiny"):
    """Names of the runs whose weights are there."""
    return {
        name
        for name, run in by_name(place, study).items()
        if any((local_path(run.artifact_uri) / file).is_file() for file in WEIGHT_FILES)
    }


def clean(capsys, folder, *arguments):
    """Drop what can go; what the list says."""
    asked = [folder / "tiny.yaml", *arguments, "--yes", "--json", "--storage", folder / "results"]
    capsys.readouterr()
    assert exit_code("clean", *asked) == 0
    return json.loads(capsys.readouterr().out)


def measured(run):
    apart = ("epoch_seconds", "wall_seconds")
    return {name: value for name, value in run.metrics.items() if name not in apart}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A network trained, pruned and fine-tuned."""
    folder = tmp_path_factory.mktemp("finished")
    (folder / "tiny.yaml").write_text(TINY_SWEEP)
    sweep(folder / "tiny.yaml", place_of(folder), *TUNED)
    return folder


@pytest.fixture
def folder(finished, tmp_path):
    return shutil.copytree(finished, tmp_path / "copy")


@pytest.fixture
def place(folder):
    return place_of(folder)


def told_anew(folder, run_id, ledger):
    """Let a run's result say of its files what they are now."""
    result = json.loads((folder / RESULT).read_text())
    (folder / RESULT).unlink()
    result["digests"] = file_digests(folder)
    (folder / RESULT).write_text(json.dumps(result))
    ledger.log(run_id, {}, [], {DIGEST_TAG: digest_of(result["digests"])})


def as_an_earlier_rfray_left_it(folder, plan):
    """Every network whole in safetensors files, and the runs' digests of these."""
    ledger = LedgerWriter(place_of(folder).tracking_uri, "tiny")
    runs = by_name(place_of(folder))
    trained = local_path(runs[TRAIN].artifact_uri)
    for run in (runs[PRUNE], runs[FINETUNE]):
        here = local_path(run.artifact_uri)
        save_file(changed_state(here, trained), here / MODEL)
        (here / CHANGES).unlink()
    save_file(initial_state(plan.cells[0].cell, trained), trained / INITIAL)
    (trained / INITIAL_NOTE).unlink()
    for run in runs.values():
        told_anew(local_path(run.artifact_uri), run.run_id, ledger)


def test_a_store_with_whole_copies_is_read_and_grows(finished, folder, place, tmp_path):
    plan = make_plan(load_study(str(folder / "tiny.yaml"), TUNED))
    as_an_earlier_rfray_left_it(folder, plan)
    # The fine-tuned network is computed anew, from the pruned one that lies there whole; what reads
    # initial weights finds them whole.
    Ledger(place.tracking_uri).client.delete_run(by_name(place)[FINETUNE].run_id)
    grown = tuple(one for one in TUNED if one != "hessian=false")
    assert set(sweep(folder / "tiny.yaml", place, *grown)) == {FINETUNE, f"{CELL}/hessian-init"}
    tuned, expected = by_name(place)[FINETUNE], by_name(place_of(finished))[FINETUNE]
    assert measured(tuned) == measured(expected)
    assert tuned.tags[DIGEST_TAG] == expected.tags[DIGEST_TAG]
    whole = ["weights", "--storage", place.root, "--study", "tiny"]
    for name in (PRUNE, FINETUNE):
        assert exit_code(*whole, name, tmp_path / "here") == 0
        there = ["--storage", place_of(finished).root]
        assert exit_code("weights", name, tmp_path / "there", *there) == 0
        assert (tmp_path / "here").read_bytes() == (tmp_path / "there").read_bytes()


def test_cleaning_a_study_takes_nothing_from_one_that_took_its_runs_over(
    finished, folder, place, capsys
):
    other = (*SMALL, "importance=false", "name=other")
    assert sweep(folder / "tiny.yaml", place, *other) == []
    shared = clean(capsys, folder, *TUNED, "keep=[]")
    # Two of the three files have a name in the other study, too, and stay there.
    freed = {entry["name"]: entry["bytes"] for entry in shared["files"]}
    assert (freed[TRAIN], freed[PRUNE]) == (0, 0)
    assert freed[FINETUNE] > 0
    assert holding(place) == set()
    assert holding(place, "other") == {TRAIN, PRUNE}

    # A fine-tuned network tells what changed from the training run of its own study.
    assert sweep(folder / "tiny.yaml", place, *TUNED, "name=other") == [FINETUNE]
    tuned, expected = by_name(place, "other")[FINETUNE], by_name(place_of(finished))[FINETUNE]
    assert tuned.tags[DIGEST_TAG] == expected.tags[DIGEST_TAG]
    # A third one takes what is whole.
    assert sweep(folder / "tiny.yaml", place, *TUNED, "name=third") == []
    taken = {run.tags[TAKEN_FROM_STUDY_TAG] for run in by_name(place, "third").values()}
    assert taken == {"tiny", "other"}


def test_what_changed_from_other_bits_is_not_taken_over(folder, place):
    alone = (*SMALL, "importance=false", "prune=false", "name=other")
    assert sweep(folder / "tiny.yaml", place, *alone) == []
    trained = by_name(place, "other")[TRAIN]
    # As if it had been trained here too, on another card.
    ledger = LedgerWriter(place.tracking_uri, "other")
    here = local_path(trained.artifact_uri)
    state = {
        name: (1.001 * weight).to(weight.dtype) for name, weight in load_file(here / MODEL).items()
    }
    (here / MODEL).unlink()  # of two studies one file
    save_file(state, here / MODEL)
    told_anew(here, trained.run_id, ledger)
    assert sweep(folder / "tiny.yaml", place, *TUNED, "name=other") == [PRUNE, FINETUNE]


def test_an_archive_brings_dropped_weights_back(finished, folder, place, tmp_path, capsys):
    full, cleaned = tmp_path / "full.tar.zst", tmp_path / "cleaned.tar.zst"
    ledger = Ledger(place.tracking_uri)
    export_study(ledger, "tiny", full, all_artifacts, quiet)
    clean(capsys, folder, *TUNED, "keep=[]")
    assert export_study(ledger, "tiny", cleaned, all_artifacts, quiet).withheld == 3
    done = import_study(vetted(full), place, quiet)
    assert (done.new, done.completed) == (0, 3)
    assert holding(place) == {TRAIN, PRUNE, FINETUNE}
    assert sweep(folder / "tiny.yaml", place, *TUNED, "prune.rates=[0.5,0.9]") == [
        f"{CELL}/prune-0.9",
        f"{CELL}/finetune-0.9",
    ]


def test_a_study_that_was_imported_without_weights_computes_what_it_needs_of_them(
    finished, folder, place, tmp_path
):
    small = tmp_path / "small.tar.zst"
    export_study(Ledger(place.tracking_uri), "tiny", small, without_weights, quiet)
    there = storage_at(str(tmp_path / "there"), None)
    import_study(vetted(small), there, quiet)
    assert holding(there) == set()
    assert sweep(folder / "tiny.yaml", there, *TUNED) == []
    grown = sweep(folder / "tiny.yaml", there, *TUNED, "prune.rates=[0.5,0.9]")
    assert grown == [TRAIN, f"{CELL}/prune-0.9", f"{CELL}/finetune-0.9"]
    again, first = by_name(there)[TRAIN], by_name(place)[TRAIN]
    assert measured(again) == measured(first)
    assert again.tags[DIGEST_TAG] == first.tags[DIGEST_TAG]
    assert again.tags["rfray.withheld"] == ""


def test_weights_that_come_back_with_other_bits_are_remarked(folder, place, capsys):
    clean(capsys, folder, *TUNED, "keep=[]")
    here = local_path(by_name(place)[TRAIN].artifact_uri)
    result = json.loads((here / RESULT).read_text())
    result["digests"][MODEL] = 64 * "0"  # as a GPU had computed them
    (here / RESULT).write_text(json.dumps(result))
    sweep(folder / "tiny.yaml", place, *TUNED, "prune.rates=[0.9]", "finetune=false")
    assert "model.safetensors has other bits" in by_name(place)[TRAIN].tags["rfray.remark"]
    assert "rfray.remark" not in by_name(place)[f"{CELL}/prune-0.9"].tags


def test_clean_redo_and_the_same_numbers(finished, folder, place, capsys):
    clean(capsys, folder, *TUNED, "keep=[]")
    asked = [folder / "tiny.yaml", TRAIN, *TUNED, "--storage", place.root]
    assert exit_code("redo", *asked) == 0
    assert sweep(folder / "tiny.yaml", place, *TUNED) == [TRAIN, PRUNE, FINETUNE]
    anew, before = by_name(place), by_name(place_of(finished))
    assert {name: measured(run) for name, run in anew.items()} == {
        name: measured(run) for name, run in before.items()
    }
    for name, run in anew.items():
        assert run.tags[DIGEST_TAG] == before[name].tags[DIGEST_TAG]


def test_weights_of_superseded_runs_go_first(finished, folder, place, capsys):
    asked = [folder / "tiny.yaml", PRUNE, *TUNED, "--storage", place.root]
    assert exit_code("redo", *asked) == 0
    listed = clean(capsys, folder, *TUNED)
    # The training run's are read by what is now missing.
    assert {(entry["kind"], entry["name"]) for entry in listed["files"]} == {
        ("weights superseded", PRUNE),
        ("weights superseded", FINETUNE),
    }
    assert len(runs_at(place)) == len(runs_at(place_of(finished)))
    assert sweep(folder / "tiny.yaml", place, *TUNED) == [PRUNE, FINETUNE]
    assert holding(place) == {TRAIN, PRUNE, FINETUNE}
