"""Numbers of runs that were computed in different precision do not stand side by side unsaid."""

import pytest
from test_tables import plan, rows, tables
from written_study import cell

from rfray.analysis.formats import markdown_text
from rfray.device.hardware import recorded_precision

__all__ = ["tables"]

CPU, GPU = "x86_64 CPU, 2 threads", "NVIDIA H100 80GB HBM3"


@pytest.mark.parametrize(
    ("setting", "hardware", "precision"),
    [
        ("auto", CPU, "float32"),
        ("auto", GPU, "bfloat16"),
        ("float32", GPU, "float32"),
        ("bfloat16", CPU, "bfloat16"),
        ("auto", "", None),
        (None, GPU, None),
    ],
)
def test_what_a_run_records_says_its_precision(setting, hardware, precision):
    params = {} if setting is None else {"precision": setting}
    assert recorded_precision(params, hardware) == precision


def train(writer, seed, hardware, k=2, precision="auto"):
    params = {**cell(seed=seed, k=k), "precision": precision}
    metrics = {"test_accuracy": 90.0 + seed}
    return writer.run("train", params, metrics, tags={"rfray.hardware": hardware})


def test_seeds_of_different_precision_are_named_beside_the_number(write, tables):
    writer = write(plan())
    for seed, hardware in enumerate((CPU, GPU, CPU)):
        train(writer, seed, hardware)
    note = rows(tables(writer.study)["pruned-0.9"]).loc["dense_test_accuracy", "note"]
    expected = "the runs have different precisions (float32: seed 0, 2; bfloat16: seed 1)"
    assert expected in note


def test_cells_of_different_precision_are_told_of_once(write, tables):
    writer = write(plan(kernel_size=[2, 3]))
    for k, hardware in ((2, CPU), (3, GPU)):
        for seed in range(3):
            train(writer, seed, hardware, k)
    text = markdown_text(tables(writer.study)["pruned-0.9"])
    assert text.count("this table has numbers of bfloat16 and float32") == 1


def test_one_precision_on_two_machines_is_one(write, tables):
    writer = write(plan())
    for seed, hardware in enumerate((CPU, GPU, GPU)):
        train(writer, seed, hardware, precision="float32")
    text = markdown_text(tables(writer.study)["pruned-0.9"])
    assert "precision" not in text.replace("the seeds differ in precision", "")
