"""docs/from_python.ipynb, run as a reader runs it: from the question to the figure, on Ray.

With one seed instead of three, and two receptive fields.
"""

from __future__ import annotations

import json
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from nbformat.v4 import new_code_cell

NOTEBOOK = Path(__file__).parent.parent / "docs" / "from_python.ipynb"

LOOK = """
import ray

assert not ray.is_initialized()  # the next sweep starts its own
print(accuracy.to_json())
"""


def text_of(output):
    return "".join(output.get("data", {}).get("text/html", output.get("text", "")))


def outputs_of(cell):
    return [text_of(output) for output in cell.get("outputs", [])]


@pytest.mark.ray
def test_notebook_goes_from_its_question_to_its_figure(tmp_path):
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    for cell in notebook.cells:
        cell.source = cell.source.replace("range(3)", "range(1)")
        cell.source = cell.source.replace("[3, 4, 5]", "[3, 5]").replace("(3, 4, 5)", "(3, 5)")
    notebook.cells.append(new_code_cell(LOOK))

    NotebookClient(
        notebook, timeout=400, kernel_name="python3", resources={"metadata": {"path": tmp_path}}
    ).execute()

    answers = json.loads(outputs_of(notebook.cells[-1])[-1])
    for fields in answers.values():
        assert fields["359"] > fields["715"] + 10, "a larger field costs accuracy"
    planned, swept = (outputs_of(c) for c in notebook.cells if "storage=" in c.source)
    assert ">vgg19_rf-digits-k5-seed0</td>" in planned[0]
    # What was said before Ray started is still there, and the live table stands at its end.
    assert any("2 of 2 runs to do" in output for output in swept)
    assert any("2 of 2 runs done" in output and "<table>" in output for output in swept)


def test_notebook_shows_its_results_and_no_error():
    outputs = [o for c in nbformat.read(NOTEBOOK, as_version=4).cells for o in c.get("outputs", [])]

    assert any("image/png" in output.get("data", {}) for output in outputs)
    assert {output["output_type"] for output in outputs} == {"execute_result", "display_data"}
