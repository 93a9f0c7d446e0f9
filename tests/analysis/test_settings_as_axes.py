"""A stage's setting that varies makes rows of its own; one that follows from others does not."""

import pytest
from written_study import cell, study_document

from rfray.analysis import build_tables, expected_slots, load_report, missing, progress, read_frame
from rfray.analysis.formats import long_form, trend_form
from rfray.analysis.presentation import blocks
from rfray.analysis.report_file import read_layout
from rfray.analysis.samples import Measurements

REPORT = """
title: T
tables:
  - id: tuned
    title: Tuned
    columns:
      - {name: dense, title: Dense, stage: train, metric: test_accuracy, trend: falls}
      - {name: tuned, title: Tuned, stage: finetune, rate: 0.9, metric: test_accuracy}
      - {name: difference, title: Difference, minus: [dense, tuned]}
"""


@pytest.fixture
def table(ledger, tmp_path):
    """The table of `REPORT` for a study."""
    path = tmp_path / "report.yaml"
    path.write_text(REPORT)

    def make(study):
        frame = read_frame(ledger, study)
        measurements = Measurements(frame, expected_slots(frame), {})
        (made,), _ = build_tables(read_layout(path), measurements, load_report(path).published)
        return made

    return make


def document(**changes):
    only = dict.fromkeys(("hessian", "cka", "importance"))
    return study_document(**{**only, "kernel_size": [2], **changes})


def write_cell(writer, dense, tuned, train=None, finetune=None, **changes):
    """Trains a network and fine-tunes it; `train` and `finetune` are what the params say."""
    params = {**cell(**changes), **(train or {})}
    parent = writer.run("train", params, {"test_accuracy": dense})
    own = {**params, **(finetune or {}), "rate": 0.9}
    writer.run("finetune", own, {"test_accuracy": tuned}, parent=parent)
    return parent


def numbers(made):
    """Mean by metric and row, a row named by its settings."""
    frame = long_form(made)
    settings = [column for column in frame.columns if "." in column]
    return {
        (row["metric"], *(row[name] for name in settings)): row["mean"]
        for _, row in frame.iterrows()
    }


def test_an_axis_of_training_is_a_row_for_each_of_its_values(write, table):
    planned = document()
    planned["axes"]["train.learning_rate"] = [0.1, 0.10000001]
    writer = write(planned)
    for seed in (0, 1):
        write_cell(writer, 90.0, 80.0, {"train.learning_rate": 0.1}, seed=seed)
        write_cell(writer, 70.0, 60.0, {"train.learning_rate": 0.10000001}, seed=seed)

    made = table(writer.study)

    assert numbers(made) == {
        ("dense", 0.1): 90.0, ("tuned", 0.1): 80.0, ("difference", 0.1): 10.0,
        ("dense", 0.10000001): 70.0, ("tuned", 0.10000001): 60.0, ("difference", 0.10000001): 10.0,
    }  # fmt: skip
    assert [block.heading for block in blocks(made)] == [
        "vgg19_rf, digits, width 0.125, train.learning_rate 0.1",
        "vgg19_rf, digits, width 0.125, train.learning_rate 0.10000001",
    ]
    assert len(trend_form(made)) == 2


def test_the_dense_number_stands_in_each_row_of_a_later_stages_axis(write, table):
    planned = document()
    planned["axes"]["finetune.learning_rate"] = [0.01, 0.001]
    writer = write(planned)
    for seed in (0, 1):
        params = cell(seed=seed)
        train = writer.run("train", params, {"test_accuracy": 90.0})
        for rate, tuned in ((0.01, 80.0), (0.001, 85.0)):
            own = {**params, "finetune.learning_rate": rate, "rate": 0.9}
            writer.run("finetune", own, {"test_accuracy": tuned}, parent=train)

    assert numbers(table(writer.study)) == {
        ("dense", 0.01): 90.0, ("tuned", 0.01): 80.0, ("difference", 0.01): 10.0,
        ("dense", 0.001): 90.0, ("tuned", 0.001): 85.0, ("difference", 0.001): 5.0,
    }  # fmt: skip


def test_runs_made_before_a_setting_became_an_axis_are_found_by_its_bare_name(write, ledger, table):
    planned = document(seed=[0])
    planned["axes"]["train.learning_rate"] = [0.1, 0.01]
    planned["train"]["learning_rate"] = 0.1
    writer = write(planned)
    write_cell(writer, 90.0, 80.0, {"learning_rate": 0.1}, {"learning_rate": 0.001})
    dotted = {"learning_rate": 0.01, "train.learning_rate": 0.01}
    write_cell(writer, 70.0, 60.0, dotted, {"learning_rate": 0.001})

    found = numbers(table(writer.study))

    assert found["dense", 0.1] == 90.0
    assert found["tuned", 0.1] == 80.0
    assert found["tuned", 0.01] == 60.0
    assert read_frame(ledger, writer.study).left_out.empty


def test_what_is_excluded_is_not_missing(write, ledger):
    planned = document(finetune=None, prune=None, kernel_size=[2, 3])
    planned["exclude"] = [{"kernel_size": [3], "seed": [1]}]
    planned["cka"] = {}
    writer = write(planned)
    for k, seed in ((2, 0), (2, 1), (3, 0)):
        writer.run("train", cell(k=k, seed=seed), {"test_accuracy": 90.0})
    writer.run("cka", {**cell(), "seeds": [0, 1]}, {"cka_diagonal_mean": 0.5})

    frame = read_frame(ledger, writer.study)

    assert missing(frame, expected_slots(frame)) == []
    planned_runs = {entry.stage: entry.planned for entry in progress(frame, expected_slots(frame))}
    assert planned_runs == {"train": 3, "cka": 1}


def test_a_setting_that_follows_from_the_kernel_size_leaves_rows_side_by_side(write, table):
    planned = document(kernel_size=[2, 3], seed=[0, 1])
    planned["when"] = [{"if": {"kernel_size": [3]}, "set": {"train.epochs": 5}}]
    writer = write(planned)
    for seed in (0, 1):
        write_cell(writer, 90.0 + seed, 80.0, {"train.epochs": 2, "epochs": 2}, k=2, seed=seed)
        write_cell(writer, 70.0 + seed, 60.0, {"train.epochs": 5, "epochs": 5}, k=3, seed=seed)

    made = table(writer.study)

    (block,) = blocks(made)
    assert block.heading == "vgg19_rf, digits, width 0.125"
    assert [one.kernel_size for one in block.cells] == ["2 (train.epochs 2)", "3 (train.epochs 5)"]
    (tested,) = made.trends
    assert tested.trend.levels == (181, 359)


def test_zipped_settings_are_planned_together(write, ledger):
    planned = document(finetune=None, prune=None, seed=[0])
    del planned["axes"]["arch"], planned["axes"]["width"]
    planned["zip"] = [{"arch": "vgg19_rf", "width": 0.5}, {"arch": "resnet50", "width": 0.25}]
    writer = write(planned)
    writer.run("train", cell(width=0.5), {"test_accuracy": 90.0})

    frame = read_frame(ledger, writer.study)

    assert [str(gap) for gap in missing(frame, expected_slots(frame))] == [
        "resnet50 digits k=2 width 0.25 seed 0: train: not run yet"
    ]


def test_an_axis_of_one_value_is_shown_nowhere_and_makes_no_run_stale(write, ledger, table):
    planned = document(seed=[0])
    planned["axes"]["train.epochs"] = [7]
    writer = write(planned)
    write_cell(writer, 90.0, 80.0, {"epochs": 7}, {"epochs": 1})

    made = table(writer.study)

    assert {name for name in long_form(made).columns if "." in name} == set()
    assert numbers(made)["tuned",] == 80.0


def test_a_run_made_with_another_list_is_stale(write, ledger):
    planned = document(finetune=None, prune=None, seed=[0, 1])
    planned["train"] = {"milestones": [10, 20]}
    writer = write(planned)
    writer.run("train", {**cell(seed=0), "milestones": [10, 20]}, {"test_accuracy": 90.0})
    writer.run("train", {**cell(seed=1), "milestones": [10]}, {"test_accuracy": 80.0})

    frame = read_frame(ledger, writer.study)

    assert [slot.seed for slot in frame.kept] == [0]
    assert list(frame.left_out["kind"]) == ["stale"]
