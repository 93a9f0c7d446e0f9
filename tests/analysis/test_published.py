import csv
import math

import pytest

from rfray.analysis import load_report
from rfray.analysis.published import load_published
from rfray.analysis.report_file import PublishedSpec, Quantity
from rfray.errors import UserError

DENSE = Quantity(stage="train", metric="test_accuracy")
PRUNED = Quantity(stage="prune", rate=0.9, metric="test_accuracy")
IMPORTANCE = Quantity(stage="importance", metric="max_importance")
CELL = (("dataset", "cifar10"), ("arch", "vgg19_rf"), ("kernel_size", 3), ("width", 1.0))


@pytest.fixture
def published(shipped):
    return load_report(shipped).published


def changed(cell, **values):
    return tuple((axis, values.get(axis, value)) for axis, value in cell)


def test_values_of_the_paper_and_of_the_author_stand_beside_a_matching_cell(published):
    beside = published.beside(PRUNED, CELL, [])

    assert list(beside) == ["paper", "author"]
    assert (beside["paper"].mean, beside["paper"].std) == (32.4, 15.7)
    assert (beside["author"].mean, beside["author"].std, beside["author"].n) == (32.42, 15.75, 5)


def test_importance_has_no_data_set(published):
    beside = published.beside(IMPORTANCE, CELL[1:], [{"backward": "linear"}])

    assert list(beside) == ["paper"]
    assert beside["paper"].mean == 2.48e-06


@pytest.mark.parametrize(
    ("cell", "settings"),
    [
        (changed(CELL, dataset="digits"), []),
        (changed(CELL, arch="vgg16"), []),
        (changed(CELL, kernel_size=7), []),
        (changed(CELL, width=0.125), []),
        ((*CELL, ("dilation", 2)), []),
        (CELL, [{}, {"width": "0.5"}]),
        (CELL, [{"backward": "true"}]),
        (CELL, [{"image_size": "32"}]),
    ],
)
def test_nothing_stands_beside_a_cell_of_other_settings(published, cell, settings):
    assert published.beside(DENSE, cell, settings) == {}


def test_every_number_of_the_reference_files_is_there(published, reference):
    for line in reference("paper_tables.csv"):
        cell = {"arch": line["arch"], "kernel_size": int(line["kernel_size"])}
        quantity = {
            "dense_test_accuracy": DENSE,
            "pruned_test_accuracy": PRUNED,
            "difference": Quantity(stage="prune", rate=0.9, metric="accuracy_drop"),
            "max_importance": IMPORTANCE,
        }[line["metric"]]
        if quantity is not IMPORTANCE:
            cell["dataset"] = line["dataset"]
        value = published.beside(quantity, tuple(cell.items()), [])["paper"]
        assert (value.mean, value.std) == (float(line["mean"]), float(line["std"]))
    for line in reference("author_means.csv"):
        cell = {name: line[name] for name in ("arch", "dataset")}
        cell["kernel_size"] = int(line["kernel_size"])
        for quantity, name in (
            ({"stage": "train", "metric": "test_accuracy"}, "dense"),
            ({"stage": line["stage"], "rate": line["rate"], "metric": "test_accuracy"}, "accuracy"),
            (
                {"stage": line["stage"], "rate": line["rate"], "metric": "accuracy_drop"},
                "difference",
            ),
        ):
            value = published.beside(Quantity(**quantity), tuple(cell.items()), [])["author"]
            assert value.mean == float(line[f"{name}_mean"])
            assert value.std == float(line[f"{name}_std"])
            assert value.n == int(line["seeds"])


@pytest.fixture
def reference():
    """Lines of a reference file that was handed to the project; skips where it is not."""
    from pathlib import Path

    folder = Path(__file__).parents[2].parent / "shared" / "reference"

    def lines(name):
        if not folder.is_dir():
            pytest.skip("the reference files are not beside this checkout")
        with (folder / name).open(newline="") as stream:
            return list(csv.DictReader(stream))

    return lines


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("source,stage,metrik,mean\n", r"no column 'metric' \(did you mean 'metrik'\?\)"),
        (
            "source,stage,metric,mean\npaper,train,x,many\n",
            "values.csv:2: this line cannot be read",
        ),
        ("source,stage,metric,mean\npaper,train,x,1\npaper,train,x,2\n", "values.csv:3: .*twice"),
    ],
)
def test_mistake_in_the_values_names_the_line(tmp_path, text, message):
    (tmp_path / "values.csv").write_text(text)

    with pytest.raises(UserError, match=message):
        load_published(PublishedSpec(file="values.csv"), tmp_path)


def test_absent_values_are_named(tmp_path):
    with pytest.raises(UserError, match="the published values cannot be read"):
        load_published(PublishedSpec(file="values.csv"), tmp_path)


def test_a_deviation_that_was_not_published_is_unknown(tmp_path):
    (tmp_path / "values.csv").write_text("source,stage,metric,mean\npaper,train,x,1\n")

    published = load_published(PublishedSpec(file="values.csv"), tmp_path)

    value = published.beside(Quantity(stage="train", metric="x"), (), [])["paper"]
    assert math.isnan(value.std)
    assert value.n is None
