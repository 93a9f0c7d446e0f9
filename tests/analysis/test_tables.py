import math

import pytest
from written_study import cell, study_document

from rfray.analysis import build_tables, expected_slots, load_report, read_frame
from rfray.analysis.formats import csv_text, long_form, markdown_text, trend_form
from rfray.analysis.samples import Measurements, read_histories

DENSE = {0: 90.0, 1: 92.0, 2: 94.0}
PRUNED = {0: 40.0, 1: 50.0, 2: 63.0}


@pytest.fixture
def tables(ledger, shipped):
    """Makes the shipped tables of a study, by id."""

    def make(study):
        report = load_report(shipped)
        frame = read_frame(ledger, study)
        histories = read_histories(ledger, frame, report.layout)
        measurements = Measurements(frame, expected_slots(frame), histories)
        made, _ = build_tables(report.layout, measurements, report.published)
        return {table.spec.id: table for table in made}

    return make


def plan(**changes):
    only = dict.fromkeys(("finetune", "hessian", "cka", "importance"))
    return study_document(**{"kernel_size": [2], "seed": [0, 1, 2], **only, **changes})


def write_seed(writer, seed, dense=None, pruned=None, **changes):
    """Trains and prunes one seed; returns the id of the training run."""
    params = cell(seed=seed, **changes)
    train = writer.run(
        "train", params, {"test_accuracy": [10.0, DENSE[seed] if dense is None else dense]}
    )
    pruned = PRUNED[seed] if pruned is None else pruned
    metrics = {"test_accuracy": pruned, "sparsity": 0.9, "live_sparsity": 0.8}
    writer.run("prune", {**params, "rate": 0.9}, metrics, parent=train)
    return train


def rows(table):
    """Long-form rows of a table with one cell, by metric."""
    return long_form(table).set_index("metric")


def test_table_as_computed_by_hand(write, tables):
    writer = write(plan())
    for seed in DENSE:
        write_seed(writer, seed)

    found = rows(tables(writer.study)["pruned-0.9"])

    assert list(found.index) == [
        "dense_test_accuracy", "pruned_test_accuracy", "difference", "sparsity", "live_sparsity"
    ]  # fmt: skip
    dense = found.loc["dense_test_accuracy"]
    assert (dense["arch"], dense["dataset"], dense["kernel_size"]) == ("vgg19_rf", "digits", 2)
    assert (dense["receptive_field"], dense["width"]) == (181, 0.125)
    assert (dense["mean"], dense["std"], dense["n"], dense["n_planned"]) == (92.0, 2.0, 3, 3)
    assert dense["ci_low"] == pytest.approx(85.41228, abs=1e-5)
    assert dense["ci_high"] == pytest.approx(95.76042, abs=1e-5)
    # Per seed 50, 42 and 31: the mean is 41, the squared deviations 81, 1 and 100.
    difference = found.loc["difference"]
    assert difference["mean"] == pytest.approx(41.0)
    assert difference["std"] == pytest.approx(math.sqrt(91.0))
    assert found.loc["pruned_test_accuracy", "mean"] == 51.0
    assert found.loc["live_sparsity", "mean"] == pytest.approx(0.8)
    assert (found["note"] == "").all()
    assert found["paper_mean"].isna().all()


def test_missing_seed_is_named_and_the_difference_takes_only_pairs(write, tables):
    writer = write(plan())
    write_seed(writer, 0)
    write_seed(writer, 1)
    writer.run("train", cell(seed=2), {"test_accuracy": 94.0})

    table = tables(writer.study)["pruned-0.9"]
    found = rows(table)

    assert found.loc["dense_test_accuracy", "n"] == 3
    assert found.loc["pruned_test_accuracy", "mean"] == 45.0
    assert found.loc["difference", "mean"] == 46.0
    assert found.loc["difference", "n"] == 2
    assert found.loc["difference", "note"] == "2 of 3 seeds; seed 2: prune 0.9 not run yet"
    assert [str(gap) for gap in table.gaps] == [
        "vgg19_rf digits k=2 seed 2: prune 0.9: not run yet"
    ]
    assert "(2 of 3)" in markdown_text(table)
    assert "- vgg19_rf digits k=2: seed 2: prune 0.9 not run yet" in markdown_text(table)


def test_failed_seed_is_named_with_its_error(write, tables):
    writer = write(plan())
    write_seed(writer, 0)
    write_seed(writer, 1)
    writer.run("train", cell(seed=2), status="FAILED", tags={"rfray.error": "loss is NaN"})

    found = rows(tables(writer.study)["pruned-0.9"])

    note = found.loc["dense_test_accuracy", "note"]
    assert note == "2 of 3 seeds; seed 2: train failed: loss is NaN"
    note = found.loc["pruned_test_accuracy", "note"]
    assert note == "2 of 3 seeds; seed 2: prune 0.9 not run: its train failed"


def test_doubled_seed_counts_once_and_is_named(write, tables):
    writer = write(plan())
    for seed in DENSE:
        write_seed(writer, seed)
    writer.run("train", cell(seed=1), {"test_accuracy": 95.0})

    dense = rows(tables(writer.study)["pruned-0.9"]).loc["dense_test_accuracy"]

    assert (dense["mean"], dense["n"]) == (93.0, 3)
    assert dense["note"] == "seed 1: train has 2 finished runs, the latest counts"


@pytest.mark.parametrize(("odd", "said"), [(math.nan, "nan"), (math.inf, "1.79769")])
def test_seed_that_is_no_number_is_not_averaged_but_named(write, tables, odd, said):
    writer = write(plan())
    write_seed(writer, 0)
    write_seed(writer, 1)
    write_seed(writer, 2, dense=odd)

    found = rows(tables(writer.study)["pruned-0.9"])

    assert found.loc["dense_test_accuracy", "mean"] == 91.0
    note = found.loc["dense_test_accuracy", "note"]
    assert note.startswith(f"2 of 3 seeds; seed 2: train has test_accuracy = {said}")
    assert found.loc["difference", "n"] == 2


def test_metric_that_a_run_lacks_is_named(write, tables):
    writer = write(plan(seed=[0]))
    train = writer.run("train", cell(), {"test_accuracy": 90.0})
    writer.run("prune", {**cell(), "rate": 0.9}, {"test_accuracy": 40.0}, parent=train)

    found = rows(tables(writer.study)["pruned-0.9"])

    assert math.isnan(found.loc["sparsity", "mean"])
    assert found.loc["sparsity", "note"] == "missing; seed 0: prune 0.9 has no metric sparsity"


def test_one_seed_has_no_deviation(write, tables):
    writer = write(plan(seed=[0]))
    write_seed(writer, 0)

    table = tables(writer.study)["pruned-0.9"]

    assert math.isnan(rows(table).loc["difference", "std"])
    assert "| 181 | 2 | this study | 90.00 (1) | 40.00 (1) | 50.00 (1) |" in markdown_text(table)
    assert "95 % interval" not in markdown_text(table)


def test_missing_cell_is_a_row_with_its_reason(write, tables):
    writer = write(plan(kernel_size=[2, 3]))
    for seed in DENSE:
        write_seed(writer, seed)

    table = tables(writer.study)["pruned-0.9"]
    found = long_form(table)
    empty = found[found["kernel_size"] == 3].set_index("metric").loc["difference"]

    assert (empty["n"], empty["n_planned"]) == (0, 3)
    assert math.isnan(empty["mean"])
    assert empty["note"].startswith("missing; seed 0: train not run yet")
    assert "| — | 3 | this study | — (0 of 3) |" in markdown_text(table)


def test_widths_are_never_averaged_together(write, tables):
    writer = write(plan(seed=[0], width=[0.125, 0.5]))
    write_seed(writer, 0, dense=90.0)
    write_seed(writer, 0, dense=80.0, width=0.5)

    found = long_form(tables(writer.study)["pruned-0.9"])
    dense = found[found["metric"] == "dense_test_accuracy"]

    assert list(dense["width"]) == [0.125, 0.5]
    assert list(dense["mean"]) == [90.0, 80.0]
    assert list(dense["n"]) == [1, 1]


def test_seeds_of_different_settings_are_named(write, tables):
    writer = write(plan(seed=[0, 1]))
    for seed, rate in ((0, 0.1), (1, 0.01)):
        writer.run("train", {**cell(seed=seed), "lr": rate}, {"test_accuracy": 90.0})

    dense = rows(tables(writer.study)["pruned-0.9"]).loc["dense_test_accuracy"]

    assert dense["note"] == "the seeds differ in lr (0.1, 0.01)"


def test_different_receptive_fields_in_one_cell_are_named(write, tables):
    writer = write(plan(seed=[0, 1]))
    writer.run("train", cell(seed=0), {"test_accuracy": 90.0})
    writer.run("train", {**cell(seed=1), "receptive_field": 182}, {"test_accuracy": 90.0})

    dense = rows(tables(writer.study)["pruned-0.9"]).loc["dense_test_accuracy"]

    assert dense["note"] == "the runs record different receptive fields: [181, 182]"


def test_difference_that_the_runs_logged_otherwise_is_named(write, tables):
    writer = write(plan(seed=[0]))
    train = writer.run("train", cell(), {"test_accuracy": 90.0})
    metrics = {"test_accuracy": 40.0, "accuracy_drop": 51.5}
    writer.run("prune", {**cell(), "rate": 0.9}, metrics, parent=train)

    difference = rows(tables(writer.study)["pruned-0.9"]).loc["difference"]

    assert difference["note"] == "seed 0: the run logged 51.50, the difference is 50.00"


def test_full_width_on_a_published_data_set_stands_beside_the_published_values(write, tables):
    writer = write(plan(dataset=["cifar10", "tiny_imagenet"], width=[1.0]))
    for seed in DENSE:
        write_seed(writer, seed, dataset="cifar10", width=1.0)

    made = tables(writer.study)

    assert set(made) == {"table1", "table2", "pruned-0.9"}
    difference = rows(made["table1"]).loc["difference"]
    assert (difference["paper_mean"], difference["paper_std"]) == (82.6, 2.02)
    assert (difference["author_mean"], difference["author_std"]) == (82.61, 2.02)
    # Dense: 92 − 93.5 over the root of 2²/3 + 0.11²/5.
    dense = rows(made["table1"]).loc["dense_test_accuracy"]
    assert dense["paper_standard_errors"] == pytest.approx(-1.5 / math.sqrt(4 / 3 + 0.0121 / 5))
    text = markdown_text(made["table1"])
    assert (
        "| 181 | 2 | this study | 92.00 ± 2.00 (3) | 51.00 ± 11.53 (3) | 41.00 ± 9.54 (3) |" in text
    )
    assert "|  |  | 95 % interval | 85.41 to 95.76 |" in text
    assert "|  |  | paper | 93.50 ± 0.11 (−1.3 SE) |" in text
    assert "|  |  | author | 93.52 ± 0.11 (−1.3 SE) |" in text
    assert (rows(made["table2"])["n"] == 0).all()
    assert rows(made["table2"]).loc["difference", "paper_mean"] == 60.8
    assert set(long_form(made["pruned-0.9"])["dataset"]) == {"cifar10", "tiny_imagenet"}


def test_finetuned_networks_have_their_own_table(write, tables):
    writer = write(plan(seed=[0, 1], finetune={"epochs": 1}))
    for seed, tuned in ((0, 88.0), (1, 91.0)):
        train = write_seed(writer, seed)
        params = {**cell(seed=seed), "rate": 0.9}
        writer.run("finetune", params, {"test_accuracy": [50.0, tuned]}, parent=train)

    found = rows(tables(writer.study)["finetuned-0.9"])

    assert found.loc["finetuned_test_accuracy", "mean"] == 89.5
    assert found.loc["difference", "mean"] == 1.5


def importance(k=2, width=1.0, **more):
    return {"arch": "vgg19_rf", "kernel_size": k, "width": width, **more}


def test_importance_is_averaged_over_draws(write, tables):
    writer = write(plan(width=[1.0], train=None, prune=None, importance={"draws": 3}))
    params = {**importance(), "draws": 3, "backward": "linear", "receptive_field": 181}
    writer.run("importance", params, {"max_importance": [1e-5, 2e-5, 3e-5]})

    row = rows(tables(writer.study)["table3"]).loc["max_importance"]

    assert row["mean"] == pytest.approx(2e-5)
    assert row["std"] == pytest.approx(1e-5)
    assert (row["n"], row["n_planned"], row["note"]) == (3, 3, "")


def test_odd_and_lacking_draws_are_named(write, tables):
    writer = write(plan(seed=[0], train=None, prune=None, importance={"draws": 4}, width=[1.0]))
    params = {**importance(), "draws": 4, "backward": "true"}
    writer.run("importance", params, {"max_importance": [1e-5, 3e-5, math.nan]})

    table = tables(writer.study)["table3"]
    row = rows(table).loc["max_importance"]

    assert row["mean"] == pytest.approx(2e-5)
    assert row["note"] == "2 of 4 draws; draw 2 is nan; 3 of 4 draws were logged"
    assert math.isnan(row["paper_mean"])
    assert [str(gap) for gap in table.gaps] == [
        "vgg19_rf k=2: importance: draw 2 of max_importance is nan"
    ]


def test_importance_of_the_published_setting_stands_beside_the_paper(write, tables):
    writer = write(
        plan(
            seed=[0], train=None, prune=None, importance={"draws": 2}, kernel_size=[3], width=[1.0]
        )
    )
    params = {**importance(k=3), "draws": 2, "backward": "linear"}
    writer.run("importance", params, {"max_importance": [2e-6, 3e-6]})

    table = tables(writer.study)["table3"]

    assert rows(table).loc["max_importance", "paper_mean"] == 2.48e-06
    text = markdown_text(table)
    assert "| — | 3 | this study | 2.5e-06 ± 7.07e-07 (2) |" in text
    assert "|  |  | paper | 2.48e-06 ± 4.88e-07 (+0.0 SE) |" in text


def test_runs_of_another_program_make_the_same_table(write, tables):
    writer = write()
    for seed, dense in DENSE.items():
        params = {key: value for key, value in cell(seed=seed).items() if key != "width"}
        train = writer.run("train", params, {"test_accuracy": dense})
        metrics = {"test_accuracy": PRUNED[seed], "sparsity": 0.9, "live_sparsity": 0.8}
        writer.run("prune", {**params, "rate": "0.90"}, metrics, parent=train)

    found = rows(tables(writer.study)["pruned-0.9"])

    assert found.loc["difference", "mean"] == pytest.approx(41.0)
    assert "width" not in found.columns


def test_csv_has_the_stated_columns_in_their_order(write, tables):
    writer = write(plan())
    write_seed(writer, 0)

    header = csv_text(long_form(tables(writer.study)["pruned-0.9"])).splitlines()[0]

    assert header == (
        "arch,dataset,kernel_size,receptive_field,metric,mean,std,n,ci_low,ci_high,"
        "paper_mean,paper_std,paper_standard_errors,author_mean,author_std,author_standard_errors,"
        "n_planned,width,note,at_chance,sampling_error,test_images"
    )


def test_trend_over_the_receptive_fields_is_tested_block_by_block(write, tables):
    writer = write(plan(kernel_size=[2, 3, 4], width=[0.125, 0.5]))
    for width, sign in ((0.125, -1), (0.5, 1)):
        for k in (2, 3, 4):
            for seed in (0, 1, 2):
                dense = 80.0 + sign * k + 0.1 * seed
                write_seed(writer, seed, k=k, width=width, dense=dense, pruned=50.0)

    table = tables(writer.study)["pruned-0.9"]
    tests = trend_form(table).set_index(["width", "metric"])

    falling = tests.loc[(0.125, "dense_test_accuracy")]
    rising = tests.loc[(0.5, "dense_test_accuracy")]
    assert (falling["hypothesis"], falling["test"]) == ("falls", "Jonckheere–Terpstra")
    assert (falling["n"], falling["receptive_fields"]) == (9, "181 359 537")
    # Nine values without ties between the groups: J = 0, mean 13.5, variance 20.25.
    assert falling["p_value"] == pytest.approx(0.00135, abs=1e-5)
    assert rising["p_value"] == pytest.approx(1 - 0.00135, abs=1e-5)
    # Four tests: two widths, each with the dense networks and with what pruning takes from them.
    assert (falling["n_tests"], falling["over"], falling["levels"]) == (
        4, "receptive_field", "181 359 537"
    )  # fmt: skip
    assert falling["p_holm"] == pytest.approx(4 * falling["p_value"])
    said = (
        "- Dense (%) falls with the receptive field: p = 0.0013, Holm-corrected for 4 tests "
        "p = 0.0054 (Jonckheere–Terpstra, one-sided; τ = −0.87, 9 values; "
        "−1.3 [−1.7, −1] per doubling)"
    )
    assert said in markdown_text(table)


def test_a_test_that_stands_in_several_tables_counts_once(write, tables):
    writer = write(plan(kernel_size=[2, 3], prune={"rates": [0.5, 0.9]}))
    for k in (2, 3):
        for seed in (0, 1, 2):
            train = write_seed(writer, seed, k=k, dense=80.0 - k + 0.1 * seed, pruned=50.0)
            params = {**cell(seed=seed, k=k), "rate": 0.5}
            metrics = {"test_accuracy": 60.0 + k, "sparsity": 0.5, "live_sparsity": 0.4}
            writer.run("prune", params, metrics, parent=train)

    made = tables(writer.study)
    tests = [tested for table in made.values() for tested in table.trends]

    # Dense in both tables, the difference at each of two rates.
    assert len(tests) == 4
    assert {tested.n_tests for tested in tests} == {3}
    dense = [tested for tested in tests if tested.column.name == "dense_test_accuracy"]
    assert dense[0].p_holm == dense[1].p_holm


def test_what_cannot_be_tested_does_not_count(write, tables):
    writer = write(plan(kernel_size=[2, 3]))
    for seed in (0, 1, 2):
        write_seed(writer, seed, pruned=DENSE[seed])

    tests = trend_form(tables(writer.study)["pruned-0.9"])

    assert list(tests["note"]) == ["only receptive field 181 has values"] * 2
    assert list(tests["n_tests"]) == [0, 0]
    assert tests["p_holm"].isna().all()


def test_each_number_knows_its_values_and_their_runs(write, tables):
    writer = write(plan(seed=[0, 1]))
    train = writer.run("train", cell(), {"test_accuracy": 90.0})
    metrics = {"test_accuracy": 40.0, "sparsity": 0.9, "live_sparsity": 0.8}
    prune = writer.run("prune", {**cell(), "rate": 0.9}, metrics, parent=train)
    failed = writer.run("train", cell(seed=1), status="FAILED")

    table = tables(writer.study)["pruned-0.9"]

    found = {entry.column.name: entry for entry in table.entries}
    assert found["dense_test_accuracy"].runs == {0: (train,)}
    assert found["difference"].runs == {0: (train, prune)}
    assert found["difference"].values == {0: 50.0}
    assert {gap.run_id for gap in table.gaps} == {failed, None}
