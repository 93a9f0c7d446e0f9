import math

import pandas as pd
import pytest
from written_study import cell, study_document

from rfray.analysis import read_frame
from rfray.analysis.frame import finished, not_finite
from rfray.errors import UserError
from rfray.tracking import Ledger


def kinds(frame):
    return dict(zip(frame.left_out["name"], frame.left_out["kind"], strict=True))


def test_one_typed_row_a_finished_stage(write, ledger):
    writer = write(study_document())
    train = writer.run("train", cell(k=3, seed=1), {"test_accuracy": [50.0, 91.5]})
    writer.run("prune", {**cell(k=3, seed=1), "rate": 0.9}, {"test_accuracy": 40.0}, parent=train)
    writer.run("hessian", {**cell(k=3, seed=1), "at": "init"}, {"trace": 3.5}, parent=train)
    importance = {"arch": "vgg19_rf", "kernel_size": 3, "width": 0.125, "receptive_field": 359}
    writer.run("importance", importance, {"max_importance_mean": 1e-5})

    rows = read_frame(ledger, writer.study).rows.set_index("stage")

    assert list(rows.index) == ["train", "prune", "hessian", "importance"]
    assert rows.loc["train", "test_accuracy"] == 91.5
    assert rows.loc["train", "kernel_size"] == 3
    assert rows.loc["train", "receptive_field"] == 359
    assert rows.loc["train", "width"] == 0.125
    assert rows.loc["train", "seconds"] == 30.0
    assert rows.loc["train", "started"].tz is not None
    assert rows.loc["prune", "rate"] == 0.9
    assert rows.loc["hessian", "at"] == "init"
    assert pd.isna(rows.loc["train", "rate"])
    assert pd.isna(rows.loc["importance", "seed"])
    assert pd.isna(rows.loc["importance", "dataset"])
    assert str(rows["kernel_size"].dtype) == "Int64"
    assert str(rows["rate"].dtype) == "Float64"
    assert rows.loc["train", "key"].startswith("train-")


def test_unfinished_runs_are_left_out_with_their_reason(write, ledger):
    writer = write(study_document())
    writer.run("train", cell(seed=0), {"test_accuracy": 90.0})
    writer.run("train", cell(seed=1), status="FAILED", tags={"rfray.error": "out of memory\nTrace"})
    writer.run("train", cell(k=3, seed=0), status="KILLED")
    writer.run("train", cell(k=3, seed=1), status="RUNNING")

    frame = read_frame(ledger, writer.study)

    assert len(frame.rows) == 1
    reasons = dict(zip(frame.left_out["kind"], frame.left_out["reason"], strict=True))
    assert reasons["failed"] == "failed: out of memory"
    assert reasons["interrupted"] == "interrupted"
    assert reasons["running"].startswith("running since 2025-")


def test_latest_finished_run_counts_and_the_others_are_duplicates(write, ledger):
    writer = write(study_document())
    writer.run("train", cell(), {"test_accuracy": 90.0})
    latest = writer.run("train", cell(), {"test_accuracy": 91.0})
    writer.run("train", cell(), status="FAILED")

    frame = read_frame(ledger, writer.study)

    assert list(frame.rows["run_id"]) == [latest]
    assert sorted(frame.left_out["kind"]) == ["duplicate", "failed"]


def test_runs_with_other_settings_than_the_study_are_stale_with_their_children(write, ledger):
    writer = write(study_document(train={"epochs": 200, "lr": 0.1, "schedule": "cosine"}))
    trial = writer.run("train", {**cell(), "epochs": 1, "lr": "1e-1"}, {"test_accuracy": 20.0})
    writer.run("prune", {**cell(), "rate": 0.9}, {"test_accuracy": 10.0}, parent=trial)
    real = {**cell(seed=1), "epochs": 200, "lr": "0.10", "schedule": "cosine"}
    writer.run("train", real, {"test_accuracy": 90.0})

    frame = read_frame(ledger, writer.study)

    assert list(frame.rows["seed"]) == [1]
    assert list(frame.left_out["kind"]) == ["stale", "stale"]
    assert frame.left_out["reason"][0] == "made with epochs=1, the study has 200"
    assert frame.left_out["reason"][1] == "its run vgg19_rf-digits-k2-seed0/train is stale"


@pytest.mark.parametrize(
    ("planned", "params", "told"),
    [
        (5000, {}, "made with 0 validation images, the study has 5000"),
        (0.1, {}, "made with 0 validation images, the study has 0.1"),
        (
            None,
            {"validation_images": 5000, "train_images": 45000},
            "made with 5000 validation images, the study has none",
        ),
        (
            0.2,
            {"validation_images": 5000, "train_images": 45000},
            "made with 5000 validation images, the study has 0.2",
        ),
    ],
)
def test_runs_that_held_other_images_out_than_the_study_are_stale(
    write, ledger, planned, params, told
):
    data = {} if planned is None else {"validation": planned}
    writer = write(study_document(data=data))
    writer.run("train", {**cell(), **params}, {"test_accuracy": 20.0})
    writer.run("importance", {"arch": "vgg19_rf", "kernel_size": 2}, {"max_importance_mean": 1.0})

    frame = read_frame(ledger, writer.study)

    assert list(frame.left_out["reason"]) == [told]
    assert list(frame.rows["stage"]) == ["importance"]


@pytest.mark.parametrize("planned", [5000, 0.1])
def test_a_number_and_the_share_that_makes_it_are_the_same_study(write, ledger, planned):
    writer = write(study_document(data={"validation": planned}))
    held_out = {"validation_images": 5000, "train_images": 45000}
    run = writer.run("train", {**cell(), **held_out}, {"test_accuracy": 20.0})
    assert list(read_frame(ledger, writer.study).rows["run_id"]) == [run]


def test_child_of_a_superseded_training_run_counts_only_with_its_key(write, ledger):
    writer = write(study_document())
    old = writer.run("train", cell(), {"test_accuracy": 80.0}, tags={"rfray.key": "old"})
    writer.run("prune", {**cell(), "rate": 0.9}, {"test_accuracy": 1.0}, parent=old)
    writer.run("train", cell(), {"test_accuracy": 90.0}, tags={"rfray.key": "new"})
    same = writer.run("train", cell(seed=1), {"test_accuracy": 80.0})
    writer.run("prune", {**cell(seed=1), "rate": 0.9}, {"test_accuracy": 2.0}, parent=same)
    writer.run("train", cell(seed=1), {"test_accuracy": 80.0})

    frame = read_frame(ledger, writer.study)

    pruned = frame.rows[frame.rows["stage"] == "prune"]
    assert list(pruned["seed"]) == [1]
    stale = frame.left_out[frame.left_out["kind"] == "stale"]
    assert list(stale["name"]) == ["vgg19_rf-digits-k2-seed0/prune-0.9"]


def test_runs_that_cannot_be_placed_are_listed(write, ledger):
    writer = write(study_document())
    writer.run("train", cell(), {"test_accuracy": 90.0})
    writer.run("train", {**cell(), "kernel_size": "three"}, {"test_accuracy": 1.0})
    writer.run("prune", cell(), {"test_accuracy": 1.0})
    foreign = writer.client.create_run(writer.experiment, run_name="notes")
    writer.client.set_terminated(foreign.info.run_id)

    left_out = read_frame(ledger, writer.study).left_out.set_index("kind")

    assert list(left_out.loc[["unreadable"], "reason"]) == [
        "param kernel_size is 'three'",
        "no param rate",
    ]
    assert left_out.loc["foreign", "reason"] == "no tag rfray.stage"


def test_every_axis_but_the_seed_tells_cells_apart(write, ledger):
    document = study_document()
    document["axes"]["dilation"] = [1, 2]
    writer = write(document)
    for dilation in (1, 2):
        for width in (0.125, 0.5):
            params = {**cell(width=width), "dilation": dilation}
            writer.run("train", params, {"test_accuracy": 90.0})

    frame = read_frame(ledger, writer.study)

    assert frame.axes == ("dataset", "arch", "kernel_size", "width", "dilation")
    assert len(frame.rows) == 4
    assert list(frame.rows["dilation"]) == [1, 1, 2, 2]


def test_without_a_document_a_setting_that_varies_in_one_cell_is_an_axis(write, ledger):
    writer = write()
    for lr in (0.1, 0.01):
        writer.run("train", {**cell(), "lr": lr, "parameters": 5}, {"test_accuracy": 90.0})

    frame = read_frame(ledger, writer.study)

    assert frame.document.inferred
    assert frame.axes == ("dataset", "arch", "kernel_size", "width", "lr")
    assert len(frame.rows) == 2


def test_a_child_takes_the_axes_it_does_not_repeat_from_its_parent(write, ledger):
    writer = write(study_document())
    train = writer.run("train", cell(), {"test_accuracy": 90.0})
    writer.run("prune", {"rate": 0.9}, {"test_accuracy": 40.0}, parent=train)

    pruned = read_frame(ledger, writer.study).rows.iloc[1]

    assert (pruned["arch"], pruned["seed"], pruned["width"]) == ("vgg19_rf", 0, 0.125)


def test_what_is_not_finite_is_found_though_the_store_keeps_infinity_as_a_number(write, ledger):
    writer = write(study_document())
    writer.run(
        "train", cell(), {"test_accuracy": math.nan, "test_loss": math.inf, "train_loss": 1.0}
    )

    odd = not_finite(read_frame(ledger, writer.study))

    assert sorted(metric for _, metric, _ in odd) == ["test_accuracy", "test_loss"]


def test_metric_with_the_name_of_a_column_stays_apart(write, ledger):
    writer = write(study_document())
    writer.run("train", cell(), {"seconds": 7.0})

    row = read_frame(ledger, writer.study).rows.iloc[0]

    assert (row["seconds"], row["metric.seconds"]) == (30.0, 7.0)


def test_frame_asks_nothing_of_single_runs(realistic, uri):
    class Frugal(Ledger):
        def metric_history(self, run_id, metric):
            raise AssertionError("one request a run")

        def artifact(self, run, name):
            raise AssertionError("one request a run")

    assert len(read_frame(Frugal(uri), realistic).rows) == 4 * 5 + 4


def test_unknown_study_names_the_nearest(realistic, ledger):
    with pytest.raises(UserError, match=r"no study 'realstic'.*did you mean 'realistic'"):
        read_frame(ledger, "realstic")


def test_no_finished_run_says_what_there_is(write, ledger):
    writer = write(study_document())
    writer.run("train", cell(), status="FAILED")
    writer.run("train", cell(seed=1), status="RUNNING")

    with pytest.raises(UserError, match=r"has no finished run \(it has 1 failed, 1 running\)"):
        finished(read_frame(ledger, writer.study))


def test_study_document_of_another_form_is_refused(write, ledger):
    writer = write({"name": "odd", "axes": {"kernel_size": ["three"]}})

    with pytest.raises(UserError, match="impossible value"):
        read_frame(ledger, writer.study)
