"""Values of a setting that share seeds are compared seed by seed, and nothing else is."""

import math

import pandas as pd
import pytest
from written_study import cell, study_document

from rfray.analysis import analyze, expected_slots, load_report, read_frame
from rfray.analysis.comparison_report import comparisons_form, comparisons_markdown, explained
from rfray.analysis.comparisons import comparisons
from rfray.analysis.samples import Measurements

GAINS = {0: 1.2, 1: 2.4, 2: 1.3, 3: 1.3, 4: 0.0}
"""What a learning rate of 0.01 gains over 0.1, by seed: mean 1.24, deviation 0.8503."""

REPORT = """
title: T
tables:
  - {id: one, title: One, columns: [{name: d, title: D, stage: train, metric: test_accuracy}]}
"""


@pytest.fixture
def compared(ledger):
    def make(study):
        frame = read_frame(ledger, study)
        return comparisons(Measurements(frame, expected_slots(frame), {})), frame

    return make


def planned(axes, **changes):
    only = dict.fromkeys(("prune", "finetune", "hessian", "cka", "importance"))
    document = study_document(**{**only, "kernel_size": [2], "seed": list(GAINS), **changes})
    document["axes"].update(axes)
    return document


def train(writer, accuracy, k=2, seed=0, **settings):
    params = {**cell(k=k, seed=seed), **{f"train.{name}": v for name, v in settings.items()}}
    return writer.run("train", params, {"test_accuracy": accuracy})


@pytest.fixture
def two_rates(write):
    """A finished study over two learning rates and two kernel sizes; at k = 3 they do alike."""
    writer = write(planned({"train.learning_rate": [0.1, 0.01]}, kernel_size=[2, 3]))
    for seed, gain in GAINS.items():
        for k in (2, 3):
            train(writer, 80.0 + seed, k, seed, learning_rate=0.1)
            train(writer, 80.0 + seed + (gain if k == 2 else 0.0), k, seed, learning_rate=0.01)
    return writer.study


def test_each_network_is_compared_with_itself_at_the_settings_first_value(two_rates, compared):
    found, _ = compared(two_rates)

    first, second = found
    assert (first.axis, first.value, first.against) == ("train.learning_rate", 0.01, 0.1)
    assert dict(first.identity) == {
        "dataset": "digits", "arch": "vgg19_rf", "kernel_size": 2, "width": 0.125
    }  # fmt: skip
    assert (first.quantity.stage, first.quantity.metric) == ("train", "test_accuracy")
    # By hand: t = 1.24 / (0.8503 / √5), with four degrees of freedom.
    assert (first.test.n, first.n_planned, len(first.runs)) == (5, 5, 10)
    assert first.test.mean == pytest.approx(1.24)
    assert first.test.t == pytest.approx(3.2610, abs=1e-3)
    assert first.test.interval == pytest.approx((0.1843, 2.2957), abs=1e-3)
    assert (first.n_tests, first.p_holm) == (1, first.test.p_value)
    assert second.note == "the difference is the same at every seed"
    assert math.isnan(second.p_holm)


def test_comparisons_are_one_family(write, compared):
    writer = write(planned({"train.learning_rate": [0.1, 0.01, 0.001]}))
    for seed, gain in GAINS.items():
        for rate, times in ((0.1, 0), (0.01, 1), (0.001, -1)):
            train(writer, 80.0 + seed + times * gain, seed=seed, learning_rate=rate)

    found, _ = compared(writer.study)

    assert [one.value for one in found] == [0.01, 0.001]
    assert [one.n_tests for one in found] == [2, 2]
    assert found[0].p_holm == pytest.approx(2 * found[0].test.p_value)


def test_a_seed_that_one_side_lacks_does_not_count_and_is_told(write, compared):
    writer = write(planned({"train.learning_rate": [0.1, 0.01]}))
    for seed, gain in GAINS.items():
        train(writer, 80.0 + seed, seed=seed, learning_rate=0.1)
        if seed:
            train(writer, 80.0 + seed + gain, seed=seed, learning_rate=0.01)

    (one,), _ = compared(writer.study)

    assert (one.test.n, one.note) == (4, "4 of 5 seeds")
    assert one.test.mean == pytest.approx(1.25)


def test_networks_that_guess_are_not_compared(write, compared):
    facts = {"digits": {"classes": 10, "test_images": 10_000}}
    writer = write(planned({"train.learning_rate": [0.1, 0.01]}, datasets=facts))
    for seed, gain in GAINS.items():
        train(writer, 10.0, seed=seed, learning_rate=0.1)
        train(writer, 10.0 + gain / 10, seed=seed, learning_rate=0.01)

    (one,), _ = compared(writer.study)

    assert one.note == "both are at chance level"
    assert (one.n_tests, math.isnan(one.test.p_value)) == (0, True)


def test_cells_that_differ_in_more_than_one_setting_are_not_compared(write, compared):
    document = planned({})
    document["zip"] = [
        {"train.epochs": epochs, "train.learning_rate": rate}
        for epochs, rate in ((1, 0.1), (2, 0.01))
    ]
    writer = write(document)
    for seed in GAINS:
        train(writer, 80.0 + seed, seed=seed, epochs=1, learning_rate=0.1)
        train(writer, 90.0 - seed, seed=seed, epochs=2, learning_rate=0.01)

    assert compared(writer.study)[0] == []


def test_a_setting_of_a_later_stage_compares_that_stage_alone(write, compared):
    axes = {"prune.among": ["all", "live"]}
    writer = write(planned(axes, prune={"rates": [0.5, 0.9]}))
    for seed, gain in GAINS.items():
        parent = train(writer, 90.0, seed=seed)
        for among, more in (("all", 0.0), ("live", gain)):
            for rate in (0.5, 0.9):
                params = {**cell(seed=seed), "rate": rate, "prune.among": among}
                metrics = {"test_accuracy": 80.0 - more, "sparsity": rate}
                writer.run("prune", params, metrics, parent=parent)

    found, _ = compared(writer.study)

    assert [str(one.quantity) for one in found] == ["prune 0.5", "prune 0.9"]
    assert {(one.value, one.against) for one in found} == {("live", "all")}
    assert found[0].test.mean == pytest.approx(-1.24)


def test_networks_data_sets_and_kernel_sizes_are_what_tables_are_for(write, compared):
    writer = write(planned({}, kernel_size=[2, 3]))
    for seed in GAINS:
        for k in (2, 3):
            train(writer, 80.0 + seed * k, k, seed)

    assert compared(writer.study)[0] == []


def test_a_comparison_reads_as_a_line_and_as_a_row(two_rates, compared):
    found, frame = compared(two_rates)

    row = comparisons_form(found).iloc[0]
    assert (row["axis"], row["value"], row["against"]) == ("train.learning_rate", "0.01", "0.1")
    assert (row["stage"], row["metric"], row["kernel_size"]) == ("train", "test_accuracy", 2)
    assert row["mean_difference"] == pytest.approx(1.24)
    assert row["test"] == "paired t"
    text = comparisons_markdown(found, frame.names, explained(found))
    assert "**train.learning_rate 0.01 against 0.1**" in text
    assert "Holm-corrected for 1 test." in text
    assert (
        "| vgg19_rf digits k=2: train test_accuracy | +1.24 | +0.18 to +2.30 "
        "| +1.16 (+0.12 to +2.73) | 0.0311 | 0.0311 | 5 | paired t |"
    ) in text
    assert "- the difference is the same at every seed: vgg19_rf digits k=3: train" in text


def test_a_report_holds_them(two_rates, ledger, tmp_path):
    path = tmp_path / "report.yaml"
    path.write_text(REPORT)

    out = analyze(ledger, two_rates, load_report(path), tmp_path / "out").out

    assert len(pd.read_csv(out / "tables" / "comparisons.csv")) == 2
    assert "0.01 against 0.1" in (out / "tables" / "comparisons.md").read_text()
    assert "## Comparisons of settings" in (out / "summary.md").read_text()
    page = (out / "report.html").read_text()
    assert 'id="comparisons"' in page
    assert "Holm-corrected for 1 test" in page
