"""A study takes over what another one of its store has done, and has runs done anew when asked."""

from __future__ import annotations

import json
import shutil

import pytest
from test_sharing import SMALL, exit_code, last_line, quiet, refused, runs_at, sweep, tables
from tiny_study import TINY_SWEEP

from rfray.driver import taking
from rfray.driver.lease import folder_lock
from rfray.files.artifacts import local_path
from rfray.sharing import export_study, import_study, vetted
from rfray.sharing.packing import all_artifacts, without_weights
from rfray.storage import storage_at
from rfray.tracking import (
    KEY_TAG,
    PARENT_TAG,
    SUPERSEDED_TAG,
    TAKEN_FROM_STUDY_TAG,
    TAKEN_FROM_TAG,
    Ledger,
)

pytestmark = pytest.mark.xdist_group("sharing")

OTHER = (*SMALL, "name=other", "prune.rates=[0.5, 0.9]")
"""A study that has one more rate: two runs more than `tiny`."""

BEYOND = {"vgg19_rf-digits-k5-seed0/prune-0.9", "vgg19_rf-digits-k5-seed1/prune-0.9"}
TRAIN = "vgg19_rf-digits-k5-seed0/train"
BEHIND = {
    TRAIN,
    "vgg19_rf-digits-k5-seed0/prune-0.5",
    "vgg19_rf-digits-k5-seed0/hessian-init",
    "vgg19_rf-digits-k5/cka",
}
"""A run and all that follows it."""


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    made = tmp_path_factory.mktemp("reused")
    (made / "tiny.yaml").write_text(TINY_SWEEP)
    sweep(made / "tiny.yaml", storage_at(str(made / "results"), None), *SMALL)
    return made


@pytest.fixture
def folder(finished, tmp_path):
    return shutil.copytree(finished, tmp_path / "copy")


@pytest.fixture
def place(folder):
    return storage_at(str(folder / "results"), None)


def numbers(place, run):
    ledger = Ledger(place.tracking_uri)
    return sorted(ledger.measured(run)), run.tags["rfray.digest"], run.tags["rfray.seconds"]


def test_what_another_study_has_done_is_taken_over_and_says_who_computed_it(folder, place, capsys):
    plan = ["plan", folder / "tiny.yaml", *OTHER, "--storage", place.root]
    capsys.readouterr()
    assert exit_code(*plan) == 0
    printed = capsys.readouterr().out
    assert "to do: 2 runs" in printed
    assert "reuses 7 runs from tiny" in printed
    assert exit_code(*plan, "--json") == 0
    totals = json.loads(capsys.readouterr().out)["totals"]
    assert (totals["done"], totals["to_do"], totals["taken_over"]) == (0, 2, {"tiny": 7})

    assert set(sweep(folder / "tiny.yaml", place, *OTHER)) == BEYOND
    computed = {run.tags[KEY_TAG]: run for run in runs_at(place)}
    runs = {run.run_id: run for run in runs_at(place, "other")}
    assert len(runs) == 9
    for run in runs.values():
        if run.name in BEYOND:
            assert TAKEN_FROM_TAG not in run.tags
            continue
        theirs = computed[run.tags[KEY_TAG]]
        assert run.tags[TAKEN_FROM_TAG] == theirs.run_id
        assert run.tags[TAKEN_FROM_STUDY_TAG] == "tiny"
        assert theirs.run_id in run.tags["mlflow.note.content"]
        assert numbers(place, run) == numbers(place, theirs)
        assert (run.start_time, run.end_time) == (theirs.start_time, theirs.end_time)
        if PARENT_TAG in theirs.tags:
            above = runs[run.tags[PARENT_TAG]]
            assert above.name == f"{run.name.partition('/')[0]}/train"
        for file in local_path(theirs.artifact_uri).iterdir():
            # One file under two names: it takes no room.
            assert file.samefile(local_path(run.artifact_uri) / file.name)
    assert sweep(folder / "tiny.yaml", place, *OTHER) == []


def test_a_third_study_names_the_one_that_computed_it(folder, place):
    sweep(folder / "tiny.yaml", place, *OTHER)
    assert sweep(folder / "tiny.yaml", place, *OTHER, "name=third") == []
    studies = {run.name: run.tags[TAKEN_FROM_STUDY_TAG] for run in runs_at(place, "third")}
    assert {name for name, study in studies.items() if study == "other"} == BEYOND
    assert set(studies.values()) == {"other", "tiny"}


def test_a_damaged_run_is_not_taken_over_nor_what_follows_it(folder, place):
    trained = next(run for run in runs_at(place) if run.name == TRAIN)
    weights = local_path(trained.artifact_uri) / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"?")
    assert set(sweep(folder / "tiny.yaml", place, *SMALL, "name=other")) == BEHIND


def test_a_run_without_its_weights_is_not_taken_over(folder, place, tmp_path):
    small = tmp_path / "small.tar.zst"
    export_study(Ledger(place.tracking_uri), "tiny", small, without_weights, quiet)
    there = storage_at(str(tmp_path / "there"), None)
    import_study(vetted(small), there, quiet)
    alone = [f"{stage}=false" for stage in ("prune", "finetune", "hessian", "cka", "importance")]
    assert sweep(folder / "tiny.yaml", there, "name=other", "axes.seed=[0]", *alone) == [TRAIN]


def test_weights_that_go_away_while_they_are_taken_over_are_computed(folder, place, monkeypatch):
    """As `rfray clean` in the other study lets them, which holds its own study alone."""
    link = taking._link_or_copy
    gone = []

    def cleaned_before(source, target):
        if not gone and source.name == "model.safetensors":
            gone.append(source)
            source.unlink()
        link(source, target)

    monkeypatch.setattr("rfray.driver.taking._link_or_copy", cleaned_before)
    computed = {run.tags[KEY_TAG]: run.tags["rfray.digest"] for run in runs_at(place)}
    sweep(folder / "tiny.yaml", place, *SMALL, "name=other")
    runs = runs_at(place, "other")
    assert gone
    assert len({run.tags[KEY_TAG] for run in runs}) == len(runs)
    assert {run.status for run in runs} == {"FINISHED"}
    assert {run.tags[KEY_TAG]: run.tags["rfray.digest"] for run in runs} == computed


def test_redo_has_a_run_and_what_follows_it_done_anew(folder, place, tmp_path, capsys):
    before = tables(place, tmp_path / "before")
    old = {run.run_id: run for run in runs_at(place)}
    again = ["redo", folder / "tiny.yaml", TRAIN, *SMALL, "--storage", place.root]
    capsys.readouterr()
    assert exit_code(*again) == 0
    told = capsys.readouterr().out
    assert {line.removeprefix("superseded: ") for line in told.splitlines()[:-1]} == BEHIND
    assert told.splitlines()[-1].startswith("to compute them:  python -m rfray.sweep ")
    assert "is not done" in refused(capsys, *again)
    assert set(sweep(folder / "tiny.yaml", place, *SMALL)) == BEHIND

    runs = runs_at(place)
    superseded = [run for run in runs if run.tags.get(SUPERSEDED_TAG)]
    assert {run.name for run in superseded} == BEHIND
    for run in superseded:
        assert f"`rfray redo` of '{TRAIN}' on" in run.tags[SUPERSEDED_TAG]
        assert run.metrics == old[run.run_id].metrics
        (anew,) = [one for one in runs if one.name == run.name and one is not run]
        assert anew.run_id not in old
        if "hessian" not in run.name and "cka" not in run.name:
            assert anew.tags["rfray.digest"] == run.tags["rfray.digest"]
    # Computed anew on a processor the numbers are the same, and the tables know nothing of it.
    assert tables(place, tmp_path / "after") == before
    assert sweep(folder / "tiny.yaml", place, *SMALL) == []

    # A study that shares the key takes the new runs, and an import knows both.
    assert sweep(folder / "tiny.yaml", place, *SMALL, "name=other") == []
    taken = {run.tags[TAKEN_FROM_TAG] for run in runs_at(place, "other")}
    assert not taken & {run.run_id for run in superseded}
    archive = tmp_path / "redone.tar.zst"
    export_study(Ledger(place.tracking_uri), "tiny", archive, all_artifacts, quiet)
    there = storage_at(str(tmp_path / "there"), None)
    assert import_study(vetted(archive), there, quiet).new == len(runs)
    assert import_study(vetted(archive), there, quiet).there == len(runs)
    assert tables(there, tmp_path / "there-tables") == before


def test_redo_is_not_answered_by_another_study(folder, place):
    assert sweep(folder / "tiny.yaml", place, *SMALL, "name=other") == []
    assert exit_code("redo", folder / "tiny.yaml", TRAIN, *SMALL, "--storage", place.root) == 0
    assert set(sweep(folder / "tiny.yaml", place, *SMALL)) == BEHIND


def test_what_cannot_be_redone_is_refused_in_one_line(folder, place, tmp_path, capsys):
    redo = ["redo", folder / "tiny.yaml"]
    wrong = TRAIN.replace("train", "trian")
    line = refused(capsys, *redo, wrong, *SMALL, "--storage", place.root)
    assert f"did you mean '{TRAIN}'?" in line
    line = refused(capsys, *redo, TRAIN, *SMALL, "--storage", tmp_path / "nothing")
    assert "there are no results here" in line
    line = last_line(capsys, *redo, TRAIN, *SMALL, "name=none", "--storage", place.root)
    assert "no study 'none'" in line
    with folder_lock(place.root, "tiny"):
        line = last_line(capsys, *redo, TRAIN, *SMALL, "--storage", place.root)
        assert "already runs" in line
    assert not any(run.tags.get(SUPERSEDED_TAG) for run in runs_at(place))
