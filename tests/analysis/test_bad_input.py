"""What a user can get wrong with `rfray analyze`: one line, exit code 2, nothing written."""

import socket

import pytest
from written_study import Writer, cell, study_document

from rfray.cli import main

REPORT = """
title: Small
tables:
  - id: dense
    title: Dense
    columns: [{name: dense, title: Dense, stage: train, metric: test_accuracy}]
"""


@pytest.fixture
def report(tmp_path):
    """A report file; keyword arguments replace text in it."""

    def write(old="", new=""):
        path = tmp_path / "report.yaml"
        path.write_text(REPORT.replace(old, new))
        return str(path)

    return write


@pytest.fixture
def refused(capsys, tmp_path, uri):
    """Runs `rfray analyze` and returns the one line by which it refuses."""

    def run(*arguments, tracking_uri=uri, out=tmp_path / "out"):
        with pytest.raises(SystemExit) as left:
            main(["analyze", *arguments, "--tracking-uri", tracking_uri, "--out", str(out)])
        printed = capsys.readouterr()
        assert left.value.code == 2, printed
        assert printed.out == ""
        assert not (tmp_path / "out").exists()
        (line,) = printed.err.splitlines()
        return line

    return run


def test_unknown_study_names_the_nearest(realistic, refused):
    assert "no study 'realistik'" in refused("--study", "realistik")
    assert "did you mean 'realistic'?" in refused("--study", "realistik")


def test_study_without_a_finished_run_says_what_it_has(write, refused, report):
    writer = write(study_document())
    writer.run("train", cell(), status="FAILED")

    line = refused(report(), "--study", writer.study)

    assert "has no finished run (it has 1 failed)" in line


def test_study_of_which_nothing_has_run_says_so(client, store, refused, report):
    Writer(client, "nothing-yet", study_document(), store)

    assert "no finished run (it has no run at all)" in refused(report(), "--study", "nothing-yet")


@pytest.mark.parametrize("document", ["{'axes'", "[1]", '"axes"'])
def test_a_study_document_that_is_no_json_object_is_named(client, write, refused, report, document):
    writer = write(study_document())
    client.set_experiment_tag(writer.experiment, "rfray.study", document)

    line = refused(report(), "--study", writer.study)

    assert f"experiment tag rfray.study of '{writer.study}'" in line
    assert "not a JSON object" in line


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("test_accuracy", "test_acuracy", "did you mean 'test_accuracy'?"),
        ("metric:", "metrik:", "unknown key 'columns.0.metrik' (did you mean 'metric'?)"),
        (
            "columns: [",
            "columns: [{name: a, title: A, minus: [dense, dens]}, ",
            "no measured column 'dens' to subtract (did you mean 'dense'?)",
        ),
        ("title: Dense\n", "title: Dense\n    where: {archs: x}\n", "did you mean 'arch'?"),
        ("title: Small", "title: [", "is not YAML"),
    ],
)
def test_mistake_in_the_report_file_is_named(realistic, refused, report, old, new, message):
    assert message in refused(report(old, new), "--study", realistic)


def test_absent_report_file_is_named(realistic, refused):
    assert "papr.yaml: cannot read the file" in refused("papr.yaml", "--study", realistic)


def test_server_that_does_not_answer_is_named(refused, report, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{free.getsockname()[1]}"

    line = refused(report(), tracking_uri=address)

    assert f"{address}: the tracking store does not answer" in line


def test_folder_that_cannot_be_written_is_named(realistic, refused, report, tmp_path):
    (tmp_path / "file").write_text("in the way")

    line = refused(report(), "--study", realistic, out=tmp_path / "file" / "out")

    assert "the report cannot be written: Not a directory" in line
    assert "choose another --out" in line


def test_studies_side_by_side_are_known_differ_and_have_something_in_common(
    realistic, client, store, refused, request
):
    writer = Writer(client, f"{request.node.name}", study_document(kernel_size=[3]), store)
    writer.run("train", cell(k=3), {"test_accuracy": 90.0})

    assert "no study 'realistik'" in refused("--study", realistic, "--study", "realistik")
    assert "'realistic' is named twice" in refused("--study", realistic, "--study", realistic)
    line = refused("--study", realistic, "--study", writer.study)
    assert "have nothing in common (kernel_size is 2 or 5 in realistic and 3 in" in line
