"""A trend over an axis that the report names: which cells it is over, and what it refuses."""

from pathlib import Path

import pytest
from written_study import cell, study_document

from rfray.analysis import analyze, build_tables, expected_slots, load_report, read_frame
from rfray.analysis.block_trends import check_trends
from rfray.analysis.formats import latex_text, markdown_text, trend_form
from rfray.analysis.report_file import read_layout
from rfray.analysis.samples import Measurements
from rfray.errors import UserError

RATES = {0.001: 90.0, 0.01: 80.0, 0.1: 70.0}


def report(tmp_path, columns):
    path = tmp_path / "report.yaml"
    path.write_text(
        f"title: T\ntables:\n  - id: one\n    title: One\n    columns:\n{columns}".replace(
            "DENSE", "name: dense, title: Dense, stage: train, metric: test_accuracy"
        ).replace(
            "TUNED", "name: tuned, title: Tuned, stage: finetune, rate: 0.9, metric: sparsity"
        )
    )
    return path


@pytest.fixture
def table(ledger, tmp_path):
    """The table of a report with these columns for a study."""

    def make(study, columns):
        path = report(tmp_path, columns)
        frame = read_frame(ledger, study)
        measurements = Measurements(frame, expected_slots(frame), {})
        (made,), _ = build_tables(read_layout(path), measurements, load_report(path).published)
        return made

    return make


def planned(**changes):
    only = dict.fromkeys(("prune", "finetune", "hessian", "cka", "importance"))
    return study_document(**{**only, **changes})


@pytest.fixture
def swept(write):
    """A study over two kernel sizes and three learning rates: the higher, the worse."""
    document = planned(kernel_size=[2, 3], seed=[0, 1, 2])
    document["axes"]["train.learning_rate"] = list(RATES)
    writer = write(document)
    for k in (2, 3):
        for rate, accuracy in RATES.items():
            for seed in (0, 1, 2):
                params = {**cell(k=k, seed=seed), "train.learning_rate": rate}
                writer.run("train", params, {"test_accuracy": accuracy - k + 0.1 * seed})
    return writer.study


def test_a_trend_over_a_learning_rate_is_tested_at_each_kernel_size(swept, table):
    made = table(swept, "      - {DENSE, trend: falls, trend_over: train.learning_rate}\n")

    tests = trend_form(made).set_index("kernel_size")
    assert list(tests.index) == [2, 3]
    first = tests.loc[2]
    assert (first["over"], first["levels"]) == ("train.learning_rate", "0.001 0.01 0.1")
    assert first["receptive_fields"] == ""
    # As over receptive fields: nine values without ties, J = 0, mean 13.5, variance 20.25.
    assert (first["n"], first["p_value"]) == (9, pytest.approx(0.00135, abs=1e-5))
    assert (first["n_tests"], first["p_holm"]) == (2, pytest.approx(2 * first["p_value"]))
    said = (
        "vgg19_rf, digits, kernel_size 2, width 0.125: "
        "Dense falls with train.learning_rate: p = 0.0013, Holm-corrected for 2 tests p = 0.0027"
    )
    assert f"- {said}" in markdown_text(made)
    assert "Dense falls with train.learning" in latex_text(made).replace("\\", "").replace(
        "allowbreak{}", ""
    )


def test_one_table_may_hold_trends_over_both(swept, table):
    columns = (
        "      - {DENSE, trend: falls, trend_over: train.learning_rate}\n"
        "      - {name: same, title: Same, stage: train, metric: test_accuracy, trend: falls}\n"
    )
    tests = trend_form(table(swept, columns))

    assert sorted(tests["over"]) == ["receptive_field"] * 3 + ["train.learning_rate"] * 2
    assert set(tests["n_tests"]) == {5}


def test_a_trend_over_the_kernel_size_stands_with_its_block(swept, table):
    made = table(swept, "      - {DENSE, trend: falls, trend_over: kernel_size}\n")

    assert [tested.trend.levels for tested in made.trends] == [(2, 3)] * 3
    assert "\n- Dense falls with kernel_size: p = " in markdown_text(made)


def test_what_follows_from_the_axis_does_not_set_its_levels_apart(write, table):
    document = planned(kernel_size=[2], seed=[0, 1])
    document["zip"] = [
        {"train.epochs": epochs, "train.learning_rate": rate}
        for epochs, rate in ((1, 0.1), (2, 0.01))
    ]
    writer = write(document)
    for epochs, rate in ((1, 0.1), (2, 0.01)):
        for seed in (0, 1):
            settings = {"train.epochs": epochs, "train.learning_rate": rate}
            values = {"test_accuracy": 80.0 + epochs + 0.1 * seed}
            writer.run("train", {**cell(seed=seed), **settings}, values)

    made = table(writer.study, "      - {DENSE, trend: rises, trend_over: train.epochs}\n")

    (tested,) = made.trends
    assert (tested.trend.levels, tested.trend.n) == ((1, 2), 4)


AXES = {
    "dataset": ("digits",),
    "arch": ("resnet50", "vgg19_rf"),
    "kernel_size": (2, 3),
    "width": (0.125,),
    "seed": (0, 1),
    "train.learning_rate": (0.1, 0.01),
    "train.nesterov": (True, False),
    "prune.scale": (1, 2),
}


@pytest.mark.parametrize(
    ("over", "message"),
    [
        ("width", "'width' does not vary in this study"),
        ("train.epochs", "'train.epochs' does not vary in this study"),
        ("arch", "'arch' has no order: resnet50 is not a number"),
        ("train.nesterov", "'train.nesterov' has no order: true is not a number"),
        ("seed", "there is no trend over seeds: they have no order"),
        ("kernel_sise", r"unknown axis 'kernel_sise' \(did you mean 'kernel_size'\?\)"),
        ("prune.scale", "train does not depend on 'prune.scale'"),
    ],
)
def test_a_trend_that_cannot_be_is_refused_in_one_line(tmp_path, over, message):
    path = report(tmp_path, f"      - {{DENSE, trend: falls, trend_over: {over}}}\n")

    with pytest.raises(UserError, match=message) as caught:
        check_trends(read_layout(path), path, AXES)

    assert "\n" not in str(caught.value)
    assert "report.yaml: table 'one': column 'dense': trend_over: " in str(caught.value)


@pytest.mark.parametrize("over", ["receptive_field", "kernel_size", "train.learning_rate"])
def test_a_trend_over_an_axis_of_numbers_is_taken(tmp_path, over):
    path = report(tmp_path, f"      - {{DENSE, trend: falls, trend_over: {over}}}\n")

    check_trends(read_layout(path), path, AXES)


def test_a_difference_depends_on_what_one_of_its_sides_does(tmp_path):
    columns = (
        "      - {DENSE}\n      - {TUNED}\n"
        "      - {name: lost, title: L, minus: [dense, tuned], trend: falls, "
        "trend_over: prune.scale}\n"
    )
    path = report(tmp_path, columns)

    check_trends(read_layout(path), path, AXES)


def test_a_trend_over_something_without_a_direction_is_refused(tmp_path):
    path = report(tmp_path, "      - {DENSE, trend_over: width}\n")

    with pytest.raises(UserError, match=r"columns\.0: trend_over without a trend: say whether it"):
        read_layout(path)


def test_a_refused_report_writes_nothing(swept, ledger, tmp_path):
    path = report(tmp_path, "      - {DENSE, trend: falls, trend_over: width}\n")

    with pytest.raises(UserError, match="'width' does not vary in this study"):
        analyze(ledger, swept, load_report(Path(path)), tmp_path / "out")

    assert not (tmp_path / "out").exists()
