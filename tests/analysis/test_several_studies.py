"""Several studies stand side by side as values of one more axis, and are tested seed by seed."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from written_study import Writer, cell, study_document, write_realistic

from rfray.analysis import analyze, compare, load_report
from rfray.analysis.comparison_report import comparisons_form
from rfray.analysis.comparisons import differences
from rfray.analysis.expected import missing
from rfray.analysis.figures import draw_figures
from rfray.analysis.figures.panels import StudyFiles
from rfray.analysis.formats import long_form, markdown_text
from rfray.analysis.report_file import read_layout
from rfray.analysis.samples import Measurements
from rfray.analysis.several import expected_of_all, read_studies, settings_apart, studies_together
from rfray.analysis.tables import build_tables
from rfray.errors import UserError

REPORT = """
title: T
tables:
  - id: one
    title: One
    columns:
      - {name: dense, title: Dense, stage: train, metric: test_accuracy, trend: falls}
      - {name: loss, title: Loss, stage: train, metric: train_loss}
"""
FIGURE = """
figures:
  - {id: training, kind: training, title: Training}
"""

ONE_STAGE = dict.fromkeys(("prune", "finetune", "hessian", "cka", "importance"))
FIRST = [91.2, 90.1, 92.4, 90.9, 91.7]
SECOND = [90.3, 90.4, 90.8, 90.0, 91.1]


@pytest.fixture
def report(tmp_path):
    path = tmp_path / "report.yaml"
    path.write_text(REPORT)
    return path


@pytest.fixture
def study(client, store, request):
    """Writes a study of trained networks: accuracies by kernel size, one a seed from `first`."""

    def write(name, accuracies, *, axes=None, first=0, rate=0.1, params=None, document=None):
        planned = {"kernel_size": list(accuracies), **(axes or {}), **(document or {})}
        seeds = range(first, first + max(map(len, accuracies.values())))
        whole = study_document(**{**ONE_STAGE, "seed": list(seeds), **planned})
        whole["train"]["learning_rate"] = rate
        writer = Writer(client, f"{request.node.name}-{name}", whole, store)
        for k, values in accuracies.items():
            for seed, value in zip(seeds, values, strict=False):
                own = {**cell(k=k, seed=seed), "learning_rate": rate, **(params or {})}
                writer.run("train", own, {"test_accuracy": value})
        return writer

    return write


@pytest.fixture
def together(ledger, report):
    """The differences of studies and the frame that they stand side by side in."""

    def read(*writers):
        frame = read_studies(ledger, [writer.study for writer in writers])
        measurements = Measurements(frame, expected_of_all(frame), {})
        return differences(measurements, read_layout(report)), frame

    return read


def test_common_seeds_are_tested_in_pairs(study, together):
    one, other = study("a", {2: FIRST}), study("b", {2: SECOND[:4]}, rate=0.01)

    (found,), _ = together(one, other)

    expected = stats.ttest_rel(SECOND[:4], FIRST[:4])
    assert found.test.test == "paired t"
    assert (found.test.n, found.n_planned, found.note) == (4, 4, "")
    assert found.test.mean == pytest.approx(np.mean(np.subtract(SECOND[:4], FIRST[:4])))
    assert found.test.p_value == pytest.approx(expected.pvalue)
    assert found.test.interval == pytest.approx(expected.confidence_interval(0.95))
    assert (found.value, found.against) == (other.study, one.study)
    assert "study" not in dict(found.identity)


def test_without_a_common_seed_the_test_is_welchs(study, together):
    one, other = study("a", {2: FIRST}), study("b", {2: SECOND[:3]}, first=5, rate=0.01)

    (found,), _ = together(one, other)

    expected = stats.ttest_ind(SECOND[:3], FIRST, equal_var=False)
    assert found.test.test == "Welch's t"
    assert (found.test.n, found.test.n_against) == (3, 5)
    assert found.test.mean == pytest.approx(np.mean(SECOND[:3]) - np.mean(FIRST))
    assert found.test.p_value == pytest.approx(expected.pvalue)
    assert found.test.interval == pytest.approx(expected.confidence_interval(0.95))
    assert math.isnan(found.test.g)
    assert found.note == ""
    assert len(found.runs) == 8


def test_runs_that_both_share_are_not_tested_against_themselves(study, together):
    one, other = study("a", {2: FIRST}), study("b", {2: FIRST})

    (found,), frame = together(one, other)

    assert found.note == "both sides are the same runs, so there is no difference"
    assert (found.test.mean, found.n_tests, found.n_tested) == (0.0, 0, 5)
    assert math.isnan(found.test.p_value)
    assert settings_apart(frame) == []


def test_one_seed_has_a_difference_and_no_interval(study, together):
    one, other = study("a", {2: FIRST[:1]}), study("b", {2: SECOND[:1]}, rate=0.01)

    (found,), _ = together(one, other)

    assert found.test.mean == pytest.approx(SECOND[0] - FIRST[0])
    assert math.isnan(found.test.interval[0])
    assert found.note == "1 seed with both, a test needs 3"


def test_every_other_study_is_held_against_the_first_as_one_family(study, together):
    one = study("a", {2: FIRST, 3: FIRST[::-1]})
    others = [study(name, {2: SECOND}, rate=rate) for name, rate in (("b", 0.01), ("c", 0.02))]

    found, _ = together(one, *others)

    assert [(f.value, dict(f.identity)["kernel_size"]) for f in found] == [
        (others[0].study, 2),
        (others[1].study, 2),
    ]
    assert [f.n_tests for f in found] == [2, 2]
    assert found[0].p_holm == pytest.approx(2 * found[0].test.p_value)


def test_a_study_that_fixes_what_another_varies_is_matched_at_its_value(
    study, together, client, store, request
):
    whole = study_document(**{**ONE_STAGE, "kernel_size": [2], "seed": list(range(5))})
    whole["axes"]["train.learning_rate"] = [0.1, 0.01]
    varied = Writer(client, f"{request.node.name}-varied", whole, store)
    for rate, values in ((0.1, FIRST), (0.01, SECOND)):
        for seed, value in enumerate(values):
            params = {**cell(seed=seed), "learning_rate": rate, "train.learning_rate": rate}
            varied.run("train", params, {"test_accuracy": value})
    fixed = study("fixed", {2: [v - 1 + 0.1 * i for i, v in enumerate(SECOND)]}, rate=0.01)

    (found,), frame = together(varied, fixed)

    assert dict(found.identity)["train.learning_rate"] == 0.01
    assert found.test.mean == pytest.approx(-1 + 0.2)
    assert missing(frame, expected_of_all(frame)) == []
    assert len(frame.left_out) == 0


def test_what_each_study_fixes_for_itself_is_told_and_sets_nothing_apart(study, together):
    one = study("a", {2: FIRST})
    other = study("b", {2: SECOND}, rate=0.01, axes={"width": [0.25]}, params={"width": 0.25})

    (found,), frame = together(one, other)

    assert dict(found.identity) == {"dataset": "digits", "arch": "vgg19_rf", "kernel_size": 2}
    assert settings_apart(frame) == [
        f"train.learning_rate is 0.1 in {one.study}, 0.01 in {other.study}",
        f"width is 0.125 in {one.study}, 0.25 in {other.study}",
    ]


def test_a_run_made_with_other_settings_than_its_study_is_still_left_out(study, together):
    one, other = study("a", {2: FIRST}), study("b", {2: SECOND}, rate=0.01)
    other.run("train", {**cell(seed=0), "learning_rate": 0.5}, {"test_accuracy": 1.0})

    (found,), frame = together(one, other)

    assert list(frame.left_out["kind"]) == ["stale"]
    assert found.test.n == 5


def test_each_study_lacks_only_what_it_planned_itself(study, together):
    one = study("a", {2: FIRST}, document={"prune": {"rates": [0.9]}})
    other = study("b", {2: SECOND}, rate=0.01)

    _, frame = together(one, other)

    gaps = missing(frame, expected_of_all(frame))
    assert len(gaps) == 5
    assert {gap.reason for gap in gaps} == {"not run yet"}
    assert all(f"study {one.study}" in gap.what for gap in gaps)


def test_a_stage_over_all_seeds_has_a_difference_without_a_test(client, store, together, request):
    writers = []
    for name, value in (("a", 0.5), ("b", 0.75)):
        whole = study_document(**{**ONE_STAGE, "kernel_size": [2], "cka": {"images": 10}})
        writer = Writer(client, f"{request.node.name}-{name}", whole, store)
        params = {**cell(), "seeds": [0, 1]}
        del params["seed"]
        writer.run("cka", params, {"cka_diagonal_mean": value}, tags={"rfray.key": name})
        writers.append(writer)

    found, _ = together(*writers)

    (aligned,) = [one for one in found if one.quantity.stage == "cka"]
    assert (aligned.test.mean, aligned.note) == (0.25, "one value each, nothing to test")


def test_the_studies_stand_under_each_other_with_the_numbers_that_each_has_alone(
    study, ledger, report, tmp_path
):
    one, other = study("a", {2: FIRST, 3: SECOND}), study("b", {2: SECOND, 3: FIRST}, rate=0.01)
    names = [one.study, other.study]

    out = compare(ledger, names, load_report(report), tmp_path / "both").out
    alone = [analyze(ledger, name, load_report(report), tmp_path / name).out for name in names]

    rows = pd.read_csv(out / "tables" / "one.csv")
    assert list(rows[rows["metric"] == "dense"]["kernel_size"]) == [2, 2, 3, 3]
    assert list(rows[rows["metric"] == "dense"]["study"]) == names * 2
    for name, folder in zip(names, alone, strict=True):
        mine = rows[rows["study"] == name].drop(columns=["study"]).reset_index(drop=True)
        theirs = pd.read_csv(folder / "tables" / "one.csv")
        pd.testing.assert_frame_equal(mine, theirs, check_dtype=False)
    tested = pd.read_csv(out / "tables" / "trends.csv")
    assert list(tested["study"]) == names


def test_a_report_of_two_studies_holds_their_differences_and_panels(
    study, ledger, report, tmp_path
):
    report.write_text(REPORT + FIGURE)
    one, other = study("a", {2: FIRST}), study("b", {2: SECOND}, rate=0.01)

    done = compare(ledger, [one.study, other.study], load_report(report), tmp_path / "out")

    assert done.study == f"{one.study} and {other.study}"
    differing = pd.read_csv(done.out / "tables" / "differences.csv")
    assert list(differing["metric"]) == ["test_accuracy"]
    text = (done.out / "tables" / "differences.md").read_text()
    assert f"**study {other.study} against {one.study}**" in text
    assert (
        f"between the studies: train.learning_rate is 0.1 in {one.study}, 0.01 in {other.study}."
        in text
    )
    assert "| vgg19_rf digits k=2: train test_accuracy | −0.74 | " in text
    assert "## Differences between the studies" in (done.out / "summary.md").read_text()
    page = (done.out / "report.html").read_text()
    assert 'id="differences"' in page
    assert f"<h3>{other.study}</h3>" in page
    assert not (done.out / "tables" / "comparisons.csv").exists()
    assert [p.name for p in (done.out / "figures").glob("*.pdf")] == [
        "training-vgg19_rf-digits.pdf"
    ]


def test_published_values_stand_beside_each_study(study, ledger, tmp_path):
    (tmp_path / "published.csv").write_text(
        "source,dataset,arch,kernel_size,stage,metric,mean\n"
        "paper,digits,vgg19_rf,2,train,test_accuracy,90.5\n"
    )
    path = tmp_path / "report.yaml"
    path.write_text("published: {file: published.csv, holds_for: {width: 0.125}}" + REPORT)
    one, other = study("a", {2: FIRST}), study("b", {2: SECOND}, rate=0.01)
    frame = read_studies(ledger, [one.study, other.study])

    (table,), _ = build_tables(
        studies_together(read_layout(path)),
        Measurements(frame, expected_of_all(frame), {}),
        load_report(path).published,
    )

    assert list(long_form(table).query("metric == 'dense'")["paper_mean"]) == [90.5, 90.5]
    assert f"2 (study {other.study})" in markdown_text(table)


@pytest.mark.parametrize(
    ("axes", "params", "told"),
    [
        (
            {"dataset": ["cifar10"]},
            {"dataset": "cifar10"},
            "dataset is digits in .* and cifar10 in",
        ),
        (
            {"kernel_size": [3]},
            {"kernel_size": 3, "receptive_field": 359},
            "kernel_size is 2 in .* and 3 in",
        ),
    ],
)
def test_studies_with_nothing_in_common_are_refused(study, together, axes, params, told):
    one, other = study("a", {2: FIRST}), study("b", {2: SECOND}, axes=axes, params=params)

    with pytest.raises(UserError, match=f"nothing in common .{told}"):
        together(one, other)


def test_a_study_is_not_compared_with_itself(study, together):
    one = study("a", {2: FIRST})

    with pytest.raises(UserError, match="is named twice"):
        together(one, one)


def test_the_long_form_says_which_test_it_was(study, together):
    one, other = study("a", {2: FIRST}), study("b", {2: SECOND}, first=5, rate=0.01)

    row = comparisons_form(together(one, other)[0]).iloc[0]

    assert (row["test"], row["n"], row["n_against"]) == ("Welch's t", 5, 5)


GRIDS = """
figures:
  - {id: spectra, kind: spectra, title: Spectra}
  - {id: cka, kind: cka, title: CKA}
  - {id: importance, kind: importance, title: Importance}
"""


def test_a_grid_has_a_part_for_each_study_with_the_same_axes(
    client, store, ledger, request, tmp_path
):
    documents = {"a": study_document(), "b": study_document(kernel_size=[3])}
    for name, document in documents.items():
        writer = Writer(client, f"{request.node.name}-{name}", document, store)
        write_realistic(writer, document)
    studies = [f"{request.node.name}-{name}" for name in documents]
    frame = read_studies(ledger, studies)
    files = StudyFiles(ledger, frame, expected_of_all(frame))
    (tmp_path / "report.yaml").write_text(REPORT + GRIDS)

    for spec in read_layout(tmp_path / "report.yaml").figures:
        (drawn,) = draw_figures(spec, files)

        first, second = drawn.figure.subfigs
        assert [part._suptitle.get_text() for part in (first, second)] == [
            f"study {study}" for study in studies
        ]
        small, large = (
            [axes for axes in part.axes if axes.axison and axes.get_title().startswith("RF 359")]
            for part in (second, first)
        )
        assert len(small) == len(large) > 0
        assert [axes.get_xlim() for axes in small] == [axes.get_xlim() for axes in large]
        assert [axes.get_ylim() for axes in small] == [axes.get_ylim() for axes in large]
        assert not any(axes.get_title().startswith("RF 181") for axes in second.axes)
