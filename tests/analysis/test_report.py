import json
import subprocess
import sys
from dataclasses import replace

import pytest
from written_study import cell, study_document

from rfray.analysis import analyze, load_report
from rfray.analysis.report import analysis_lines
from rfray.errors import UserError
from rfray.tracking import Ledger

SIMILARITY = {"cka_diagonal_mean": 0.5, "cka_shuffled_mean": 0.2}
SMALL = """
title: Small
tables:
  - id: dense
    title: Dense
    columns: [{name: dense, title: Dense, stage: train, metric: test_accuracy}]
"""


@pytest.fixture
def small(tmp_path):
    """A report file of one table and no figure."""
    path = tmp_path / "small.yaml"
    path.write_text(SMALL)
    return path


@pytest.fixture(scope="module")
def whole(realistic, ledger, shipped, tmp_path_factory):
    """The shipped report on a finished study."""
    return analyze(ledger, realistic, load_report(shipped), tmp_path_factory.mktemp("whole"))


def test_finished_study_gives_every_table_and_figure(whole):
    files = {str(path.relative_to(whole.out)) for path in whole.written}

    assert whole.gaps == ()
    assert whole.left_out == {}
    assert files == {
        *(
            f"tables/{table}.{suffix}"
            for table in ("table3", "pruned-0.9", "finetuned-0.9", "cka")
            for suffix in ("csv", "md", "tex")
        ),
        "tables/trends.csv",
        *(
            f"figures/{figure}.{suffix}"
            for figure in (
                "training-vgg19_rf-digits",
                "pruning-vgg19_rf-digits",
                "finetuning-vgg19_rf-digits",
                "spectra-vgg19_rf-digits",
                "eigenvalues-vgg19_rf-digits",
                "cka-vgg19_rf-digits",
                "cka-layers-vgg19_rf-digits",
                "importance-vgg19_rf",
            )
            for suffix in ("png", "pdf", "svg")
        ),
        "summary.md",
        "report.html",
    }
    assert all(path.stat().st_size > 0 for path in whole.written)
    assert {entry.id for entry in whole.not_in_study} >= {"table1", "table4", "pruned-0.5"}


def test_summary_tells_all_on_one_page(whole):
    text = (whole.out / "summary.md").read_text()

    assert "- Study: `realistic`" in text
    assert "- rfray: 0.1.0" in text
    assert "- git: f9be4cc" in text
    assert "| train | 4 | 4 | 0 | 0 | 0 |" in text
    assert "### pruned-0.9" in text
    assert "(figures/cka-vgg19_rf-digits.png)" in text
    assert "table1: the study has no dataset cifar10" in text
    assert "## Missing" not in text


def test_half_done_study_names_every_gap(write, ledger, shipped, tmp_path):
    writer = write(study_document(kernel_size=[2], finetune=None, hessian=None))
    train = writer.run("train", cell(), {"test_accuracy": 90.0})
    metrics = {"test_accuracy": 40.0, "sparsity": 0.9, "live_sparsity": 0.8}
    writer.run("prune", {**cell(), "rate": 0.9}, metrics, parent=train)
    writer.run("train", cell(seed=1), status="FAILED", tags={"rfray.error": "no memory"})
    importance = {"arch": "vgg19_rf", "kernel_size": 2, "width": 0.125}
    writer.run("importance", importance, {"max_importance": [1.0, 2.0, 3.0]})

    found = analyze(ledger, writer.study, load_report(shipped), tmp_path / "out")

    assert [str(gap) for gap in found.gaps] == [
        "vgg19_rf digits k=2 seed 1: train: failed: no memory",
        "vgg19_rf digits k=2 seed 1: prune 0.9: not run: its train failed",
        "vgg19_rf digits k=2: cka: not run yet",
        "vgg19_rf k=2: importance: has no artifact pattern.npy",
    ]
    assert list(analysis_lines(found))[3:5] == [
        "missing: vgg19_rf k=2: importance: has no artifact pattern.npy",
        "left out: 1 failed runs, each named in report.html",
    ]
    many = replace(found, gaps=found.gaps * 3)
    assert "missing: 2 more, all named in report.html" in analysis_lines(many)
    text = (tmp_path / "out" / "summary.md").read_text()
    assert "## Missing (4)" in text
    assert "## Runs left out (1)" in text
    assert "| train | 2 | 1 | 0 | 1 | 0 |" in text
    assert (tmp_path / "out" / "figures" / "cka-vgg19_rf-digits.png").is_file()


def test_damaged_artifact_is_a_gap_and_nothing_else(write, ledger, shipped, tmp_path):
    only = dict.fromkeys(("train", "prune", "finetune", "hessian", "importance"))
    writer = write(study_document(kernel_size=[2], **only))
    group = {key: value for key, value in cell().items() if key != "seed"}
    writer.run("cka", {**group, "seeds": "[0, 1]"}, SIMILARITY, files={"cka.npz": b"PK"})

    (gap,) = analyze(ledger, writer.study, load_report(shipped), tmp_path / "out").gaps

    assert str(gap).startswith("vgg19_rf digits k=2: cka: cka.npz cannot be read")


def test_files_of_an_earlier_report_go_and_all_else_stays(write, ledger, small, tmp_path):
    writer = write(study_document())
    writer.run("train", cell(), {"test_accuracy": 90.0})
    out = tmp_path / "out"
    analyze(ledger, writer.study, load_report(small), out)
    (out / "tables" / "mine.csv").write_text("mine")
    small.write_text(SMALL.replace("id: dense", "id: accuracy"))

    analyze(ledger, writer.study, load_report(small), out)

    names = sorted(path.name for path in (out / "tables").iterdir())
    assert names == ["accuracy.csv", "accuracy.md", "accuracy.tex", "mine.csv"]


def test_failed_analysis_leaves_the_folder_as_it_was(write, ledger, small, tmp_path, monkeypatch):
    writer = write(study_document())
    writer.run("train", cell(), {"test_accuracy": 90.0})
    out = tmp_path / "out"
    analyze(ledger, writer.study, load_report(small), out)
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    writer.run("train", cell(seed=1), {"test_accuracy": 10.0})
    monkeypatch.setattr("rfray.analysis.report.summary_text", lambda contents: 1 / 0)

    with pytest.raises(ZeroDivisionError):
        analyze(ledger, writer.study, load_report(small), out)

    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before


def test_same_study_gives_the_same_files(realistic, ledger, small, tmp_path):
    first = analyze(ledger, realistic, load_report(small), tmp_path / "first")
    second = analyze(ledger, realistic, load_report(small), tmp_path / "second")

    for one, other in zip(first.written, second.written, strict=True):
        assert one.read_bytes() == other.read_bytes()


def test_folder_that_cannot_be_written_is_named(realistic, ledger, small, tmp_path):
    (tmp_path / "file").write_text("in the way")

    with pytest.raises(UserError, match="the report cannot be written: ") as caught:
        analyze(ledger, realistic, load_report(small), tmp_path / "file" / "out")

    assert str(tmp_path / "file") in str(caught.value)
    assert "\n" not in str(caught.value)


def test_study_without_a_finished_run_writes_nothing(write, ledger, small, tmp_path):
    writer = write(study_document())
    writer.run("train", cell(), status="RUNNING")

    with pytest.raises(UserError, match="no finished run"):
        analyze(ledger, writer.study, load_report(small), tmp_path / "out")

    assert not (tmp_path / "out").exists()


def test_unknown_study_writes_nothing(realistic, ledger, small, tmp_path):
    with pytest.raises(UserError, match="did you mean 'realistic'"):
        analyze(ledger, "realistik", load_report(small), tmp_path / "out")

    assert not (tmp_path / "out").exists()


def test_report_with_an_unknown_metric_writes_nothing(realistic, ledger, small, tmp_path):
    small.write_text(SMALL.replace("test_accuracy", "test_acuracy"))

    with pytest.raises(UserError, match="unknown metric of train 'test_acuracy'"):
        analyze(ledger, realistic, load_report(small), tmp_path / "out")

    assert not (tmp_path / "out").exists()


def test_the_analysis_knows_neither_ray_nor_torch_nor_mlflow():
    code = (
        "import json, sys; import rfray.analysis; light = set(sys.modules);"
        "import rfray.analysis.report;"
        "print(json.dumps([[m for m in names if m in modules] for names, modules in ("
        "(('pandas', 'matplotlib', 'numpy', 'mlflow', 'torch', 'ray'), light),"
        "(('mlflow', 'torch', 'ray', 'rfray.engine', 'rfray.stages'), sys.modules))]))"
    )

    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout

    assert json.loads(printed) == [[], []]


def test_public_names_are_there():
    import rfray.analysis

    assert all(hasattr(rfray.analysis, name) for name in rfray.analysis.__all__)
    with pytest.raises(AttributeError, match="no attribute 'analyse'"):
        rfray.analysis.analyse  # noqa: B018


def test_any_ledger_of_the_same_store_gives_the_same(realistic, uri, small, tmp_path):
    assert analyze(Ledger(uri), realistic, load_report(small), tmp_path / "out").gaps == ()
