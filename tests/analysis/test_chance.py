"""Numbers at chance level are marked, and no trend is read out of them."""

import pytest
from scipy.stats import binom
from test_tables import plan, tables, write_seed
from written_study import FIELDS

from rfray.analysis.chance import TestImages, at_chance
from rfray.analysis.formats import latex_text, long_form, markdown_text

__all__ = ["tables"]

TEN = {"digits": {"classes": 10, "test_images": 10_000}}


@pytest.mark.parametrize(("classes", "images"), [(10, 10_000), (100, 10_000), (10, 364), (2, 500)])
def test_guessing_stays_at_or_below_the_limit_in_95_of_100_cases(classes, images):
    test = TestImages(classes, images)
    assert test.chance == pytest.approx(100 / classes)
    correct = int(test.highest_at_chance / 100 * images)
    assert binom.cdf(correct, images, 1 / classes) == pytest.approx(0.95, abs=0.015)


def test_all_accuracies_must_be_at_chance():
    test = TestImages(10, 10_000)
    assert test.highest_at_chance == pytest.approx(10.4935, abs=1e-4)
    assert at_chance([10.0, 10.49, 8.2], test)
    assert not at_chance([10.0, 10.5], test)
    assert not at_chance([], test)
    assert not at_chance([10.0], None)


def collapsed(writer, accuracies):
    """Dense accuracies fall with the kernel size; pruned ones are given by kernel size."""
    for k, pruned in accuracies.items():
        for seed in range(3):
            write_seed(writer, seed, dense=90 - k + seed / 10, pruned=pruned, k=k)


@pytest.fixture
def all_at_chance(write, tables):
    writer = write(plan(kernel_size=[2, 3, 4], datasets=TEN))
    collapsed(writer, {2: 10.0, 3: 10.0, 4: 10.2})
    return tables(writer.study)["pruned-0.9"]


def test_the_mark_stands_beside_each_number_and_is_explained_once(all_at_chance):
    text = markdown_text(all_at_chance)
    assert "10.00 ± 0.00 (3) †" in text
    assert text.count("† at chance level: no accuracy is above 100 % / classes") == 1
    assert "88.10 ± 0.10 (3) |" in text
    assert latex_text(all_at_chance).count("no accuracy is above") == 1


def test_the_csv_says_so_in_a_column_of_its_own(all_at_chance):
    frame = long_form(all_at_chance)
    marked = frame.groupby("metric")["at_chance"].agg(set).to_dict()
    assert marked == {
        "dense_test_accuracy": {False},
        "pruned_test_accuracy": {True},
        "difference": {True},
        "sparsity": {False},
        "live_sparsity": {False},
    }


def test_a_difference_that_only_repeats_its_other_side_is_not_tested(all_at_chance):
    trends = {trend.column.name: trend.trend for trend in all_at_chance.trends}
    assert trends["dense_test_accuracy"].p_value < 0.01
    difference = trends["difference"]
    assert difference.p_value != difference.p_value
    assert difference.reason == "every value, or a side of every difference, is at chance level"
    assert difference.levels == tuple(FIELDS["vgg19_rf"][k] for k in (2, 3, 4))
    assert "difference falls" not in markdown_text(all_at_chance)


def test_one_cell_above_chance_is_enough_to_test(write, tables):
    writer = write(plan(kernel_size=[2, 3, 4], datasets=TEN))
    collapsed(writer, {2: 10.0, 3: 30.0, 4: 10.0})
    table = tables(writer.study)["pruned-0.9"]
    trends = {trend.column.name: trend.trend for trend in table.trends}
    assert trends["difference"].reason == ""
    assert "30.00 ± 0.00 (3) |" in markdown_text(table)


def test_a_study_that_never_said_how_many_classes_it_has_is_as_before(write, tables):
    writer = write(plan(kernel_size=[2, 3, 4]))
    collapsed(writer, {2: 10.0, 3: 10.0, 4: 10.0})
    table = tables(writer.study)["pruned-0.9"]
    assert "†" not in markdown_text(table)
    assert all(not trend.trend.reason for trend in table.trends)


@pytest.mark.parametrize("facts", [{"digits": {"classes": "ten", "test_images": 1}}, {"digits": 3}])
def test_a_document_of_another_form_is_refused(write, tables, facts):
    writer = write(plan(datasets=facts))
    write_seed(writer, 0)
    with pytest.raises(Exception, match="the study document has an impossible value"):
        tables(writer.study)
