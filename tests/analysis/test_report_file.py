import pytest

from rfray.analysis.report_file import DifferenceColumn, check_names, read_layout
from rfray.errors import UserError

COLUMN = "{name: dense, title: Dense, stage: train, metric: test_accuracy}"


def report(tmp_path, text):
    path = tmp_path / "report.yaml"
    path.write_text(text)
    return path


def table(tmp_path, columns, more=""):
    text = f"title: T\ntables:\n  - id: one\n    title: One\n    columns: [{columns}]\n{more}"
    return report(tmp_path, text)


def test_shipped_report_has_every_table_of_the_paper(shipped):
    layout = read_layout(shipped)

    rates = ("0.9", "0.8", "0.7", "0.6", "0.5")
    assert [table.id for table in layout.tables] == [
        *(f"table{number}" for number in (1, 2, 3, 4)),
        *(f"pruned-{rate}" for rate in rates),
        *(f"finetuned-{rate}" for rate in rates),
        "cka",
        "barrier",
        "erf",
        "probe",
        "saturation",
    ]
    assert [figure.kind for figure in layout.figures] == [
        "training", "pruning", "finetuning", "spectra", "eigenvalues", "cka", "cka_layers",
        "barriers", "probe", "saturation", "importance", "erf",
    ]  # fmt: skip
    check_names(layout, shipped, axes=(), metrics={})


def test_each_makes_one_table_a_value(tmp_path):
    column = '{name: pruned, title: "At {rate}", stage: prune, rate: "{rate}", metric: sparsity}'
    text = (
        "title: T\ntables:\n  - id: 'pruned-{rate}'\n    each: {rate: [0.5, 0.9]}\n"
        f"    title: Rate {{rate}}\n    columns: [{column}]\n"
    )

    tables = read_layout(report(tmp_path, text)).tables

    assert [table.id for table in tables] == ["pruned-0.5", "pruned-0.9"]
    assert [table.title for table in tables] == ["Rate 0.5", "Rate 0.9"]
    assert tables[1].measured["pruned"].parameter == 0.9


def test_difference_is_told_from_a_measured_column(tmp_path):
    pruned = "{name: pruned, title: Pruned, stage: prune, rate: 0.9, metric: test_accuracy}"
    lost = "{name: lost, title: Lost, minus: [dense, pruned]}"

    (one,) = read_layout(table(tmp_path, f"{COLUMN}, {pruned}, {lost}")).tables

    assert isinstance(one.columns[2], DifferenceColumn)
    assert list(one.measured) == ["dense", "pruned"]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (
            "{name: a, title: A, stage: train, metrc: test_accuracy}",
            r"table 'one': unknown key 'columns\.0\.metrc' \(did you mean 'metric'\?\)",
        ),
        ("{name: a, title: A, stage: train}", r"table 'one': columns\.0\.metric: Field required"),
        (
            "{name: a, title: A, stage: prune, metric: sparsity}",
            r"table 'one': columns\.0: stage prune needs a rate",
        ),
        (
            "{name: a, title: A, stage: train, rate: 0.9, metric: test_accuracy}",
            "stage train has no rate",
        ),
        (
            "{name: a, title: A, stage: train, metric: test_accuracy, over: draws}",
            "draws of train would be pooled over seeds",
        ),
        (
            "{name: a, title: A, format: 2digits, stage: train, metric: test_accuracy}",
            r"columns\.0\.format: '2digits' is not a number format such as \.2f or \.3g",
        ),
        (
            "{name: a, title: A, stage: train, metric: test_accuracy, trend: sinks}",
            r"columns\.0\.trend: Input should be 'falls' or 'rises'",
        ),
        (f"{COLUMN}, {COLUMN}", "column 'dense' occurs twice"),
        (
            f"{COLUMN}, {{name: lost, title: L, minus: [dense, dens]}}",
            r"no measured column 'dens' to subtract \(did you mean 'dense'\?\)",
        ),
        (
            f"{COLUMN}, {{name: i, title: I, stage: importance, metric: max_importance}}",
            "its columns are of stages whose runs do not have the same axes",
        ),
        ("", r"columns: Tuple should have at least 1 item"),
    ],
)
def test_mistake_in_a_table_is_one_line_that_names_it(tmp_path, columns, message):
    with pytest.raises(UserError, match=message) as caught:
        read_layout(table(tmp_path, columns))

    assert "\n" not in str(caught.value)
    assert "report.yaml" in str(caught.value)


@pytest.mark.parametrize("name", ["trends", "comparisons"])
def test_a_table_leaves_the_reports_own_files_their_names(tmp_path, name):
    text = table(tmp_path, COLUMN).read_text().replace("id: one", f"id: {name}")

    with pytest.raises(UserError, match=f"'{name}' is the name of a file that every report may"):
        read_layout(report(tmp_path, text))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("title: T\ntabels: []\n", r"unknown key 'tabels' \(did you mean 'tables'\?\)"),
        ("title: [unclosed\n", r"report\.yaml:2: is not YAML"),
        ("- a list\n", "holds a list, not keys with values"),
        ("tables: []\n", "title: Field required"),
        (
            "title: T\nfigures:\n  - {id: a, title: A, kind: spectrum}\n",
            r"report\.yaml:3: figure 'a': kind",
        ),
        ("title: T\nfigures:\n  - {id: a/b, title: A, kind: cka}\n", "figure 'a/b': id"),
        (
            "title: T\ntables:\n  - {id: a, each: {rate: 0.9}}\n",
            "each must be one name with a list",
        ),
        ("title: T\ntables: [3]\n", "table '0'"),
    ],
)
def test_mistake_in_a_report_is_one_line_that_names_it(tmp_path, text, message):
    with pytest.raises(UserError, match=message):
        read_layout(report(tmp_path, text))


def test_absent_report_is_named(tmp_path):
    with pytest.raises(UserError, match=r"papr\.yaml: cannot read the file: No such file"):
        read_layout(tmp_path / "papr.yaml")


@pytest.mark.parametrize(
    ("column", "message"),
    [
        (
            "{name: a, title: A, stage: train, metric: test_acuracy}",
            r"unknown metric of train 'test_acuracy' \(did you mean 'test_accuracy'\?\)",
        ),
        (
            "{name: a, title: A, stage: trian, metric: test_accuracy}",
            r"unknown stage 'trian' \(did you mean 'train'\?\)",
        ),
    ],
)
def test_unknown_stage_and_metric_name_the_nearest(tmp_path, column, message):
    path = table(tmp_path, column)

    with pytest.raises(UserError, match=message):
        check_names(read_layout(path), path, axes=(), metrics={})


def test_metric_that_the_runs_hold_is_known_though_the_schema_has_it_not(tmp_path):
    path = table(tmp_path, "{name: a, title: A, stage: distil, metric: gap}")

    check_names(read_layout(path), path, axes=(), metrics={"distil": frozenset({"gap"})})


def test_unknown_axis_names_the_nearest(tmp_path):
    path = table(tmp_path, COLUMN, more="    where: {datset: cifar10}\n")

    with pytest.raises(UserError, match=r"unknown axis 'datset' \(did you mean 'dataset'\?\)"):
        check_names(read_layout(path), path, axes=("dataset",), metrics={})
