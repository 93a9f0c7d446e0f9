"""The worked notebook of docs/, run as a reader runs it: beside a folder of results."""

import json
from pathlib import Path

import nbformat
import pytest
from mlflow.tracking import MlflowClient
from nbclient import NotebookClient
from nbformat.v4 import new_code_cell
from written_study import Writer, cell, study_document

from rfray.tracking import make_database

NOTEBOOK = Path(__file__).parents[2] / "docs" / "own_question.ipynb"


@pytest.fixture
def beside_results(tmp_path):
    """A folder with results: one network that loses 4 points at rate 0.5 and 44 at rate 0.9."""
    results = tmp_path / "rfray-results"
    results.mkdir()
    make_database(results / "mlflow.db")
    client = MlflowClient(tracking_uri=f"sqlite:///{results}/mlflow.db")
    only = dict.fromkeys(("finetune", "hessian", "cka", "importance"))
    document = study_document(kernel_size=[4], prune={"rates": [0.5, 0.9]}, **only)
    writer = Writer(client, "quickstart", document, results)
    for seed in (0, 1):
        params = cell(k=4, seed=seed)
        train = writer.run("train", params, {"test_accuracy": 90.0})
        for rate, live, drop in ((0.5, 0.4, 4.0), (0.9, 0.8, 44.0)):
            metrics = {"sparsity": rate, "live_sparsity": live, "accuracy_drop": drop}
            writer.run("prune", {**params, "rate": rate}, metrics, parent=train)
    return tmp_path


def test_notebook_runs_and_answers_its_question(beside_results):
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    notebook.cells.append(new_code_cell("print(answers[half_zero].mean().to_json())"))

    NotebookClient(
        notebook,
        timeout=300,
        kernel_name="python3",
        resources={"metadata": {"path": beside_results}},
    ).execute()

    answers = json.loads(notebook.cells[-1].outputs[0]["text"])
    # Half of the live weights are zero a quarter of the way from 0.4 to 0.8: 4 + 40 / 4.
    assert answers == pytest.approx({"of all weights": 4.0, "of live weights": 14.0})


def test_notebook_shows_its_results_and_no_error():
    outputs = [o for c in nbformat.read(NOTEBOOK, as_version=4).cells for o in c.get("outputs", [])]

    assert any("image/png" in output.get("data", {}) for output in outputs)
    assert {output["output_type"] for output in outputs} == {"execute_result", "display_data"}
