"""The hessian stage: its methods, and what it says of eigenvalues that have not converged."""

from __future__ import annotations

import csv

import pytest
import torch

from rfray.cell import Cell
from rfray.errors import UserError
from rfray.plan import make_plan
from rfray.stages import hessian
from rfray.stages.hessian_methods import Found
from rfray.stages.stage import Input, StageContext
from rfray.study.sweep_file import load_study
from rfray.training.weights import initial_module, save_module

pytestmark = pytest.mark.filterwarnings("ignore")

CELL = Cell(dataset="digits", arch="vgg19_rf", kernel_size=5, seed=0, width=0.0625)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """What the stage reads: a training run whose weights are those of the initialisation."""
    folder = tmp_path_factory.mktemp("train")
    save_module(initial_module(CELL, "cpu"), folder / "init.safetensors")
    return Input(stage="train", cell=CELL, folder=folder, metrics={})


def spectrum(trained, tmp_path, remarks=None, **changes):
    """Run the stage; each metric's values by step, and the rows of spectrum.csv."""
    settings = {"at": ["init"], "n": 4, "images": 16, "probes": 2, "steps": 5, **changes}
    remarks = [] if remarks is None else remarks
    reported: dict[str, dict[int, float]] = {}

    def report(step, metrics):
        for name, value in metrics.items():
            reported.setdefault(name, {})[step] = value

    hessian.run(
        StageContext(
            parameters=hessian.HessianParameters(**settings),
            variant={"at": "init"},
            cells=(CELL,),
            inputs=(trained,),
            workspace=tmp_path,
            checkpoint=tmp_path,
            device="cpu",
            report=report,
            remark=remarks.append,
        )
    )
    with (tmp_path / "spectrum.csv").open() as file:
        return reported, list(csv.DictReader(file))


def last(metric):
    return metric[max(metric)]


def test_every_eigenvalue_has_its_residual_and_all_are_converged(trained, tmp_path):
    remarks = []
    reported, rows = spectrum(trained, tmp_path, remarks)
    assert remarks == []
    values = list(reported["eigenvalue"].values())
    assert list(reported["eigenvalue"]) == list(reported["residual"]) == [0, 1, 2, 3]
    assert values == sorted(values, reverse=True)
    assert all(reported["residual"][rank] <= 1e-3 * values[rank] for rank in range(4))
    assert [row["converged"] for row in rows] == ["True"] * 4
    assert last(reported["converged_eigenvalues"]) == 4
    assert reported["searched_for_missed_copies"] == {0: 1}
    assert reported["wall_seconds"][0] > 0
    assert max(reported["converged_eigenvalues"]) <= reported["products"][0]


def test_the_ranks_that_have_not_converged_are_named():
    values = torch.tensor([8.0, 4.0, 2.0, 1.0, 0.5])
    residuals = torch.tensor([0.0, 0.4, 0.1, 0.0, 0.1])
    found = Found(values, residuals, residuals <= 1e-3 * values, products=9, searched=True)
    (sentence,) = hessian.doubts(found, 1e-3)
    assert "3 of 5" in sentence
    assert "rank 1-2, 4, with residuals of up to 0.2 of" in sentence


def test_progress_is_told_while_it_iterates(trained, tmp_path):
    reported, _ = spectrum(trained, tmp_path)
    converged = reported["converged_eigenvalues"]
    assert len(converged) > 2
    assert list(converged) == sorted(converged)


def test_out_of_products_it_records_what_it_has_and_says_which_are_not_converged(trained, tmp_path):
    remarks = []
    reported, rows = spectrum(trained, tmp_path, remarks, n=12, max_products=30)
    converged = [row["converged"] == "True" for row in rows]
    assert len(rows) == len(reported["eigenvalue"]) == 12
    assert False in converged
    assert last(reported["converged_eigenvalues"]) == sum(converged)
    assert reported["searched_for_missed_copies"] == {0: 0}
    assert remarks[0].startswith(f"{converged.count(False)} of 12 eigenvalues have not converged")
    assert "cut short" in remarks[1]
    for row, is_converged in zip(rows, converged, strict=True):
        assert (float(row["residual"]) <= 1e-3 * float(row["eigenvalue"])) == is_converged


def test_ritz_values_of_n_steps_show_how_few_of_them_are_eigenvalues(trained, tmp_path):
    _, true_rows = spectrum(trained, tmp_path, n=12)
    reported, rows = spectrum(trained, tmp_path, n=12, method="ritz")
    assert len(rows) == 12
    assert last(reported["converged_eigenvalues"]) < 6
    assert float(rows[0]["eigenvalue"]) == pytest.approx(float(true_rows[0]["eigenvalue"]), 1e-3)
    assert float(rows[11]["eigenvalue"]) < float(true_rows[11]["eigenvalue"])
    assert "searched_for_missed_copies" not in reported


def test_pyhessian_agrees_on_the_leading_eigenvalue(trained, tmp_path):
    _, true_rows = spectrum(trained, tmp_path, n=1)
    reported, rows = spectrum(trained, tmp_path, n=1, method="pyhessian", tolerance=1e-4)
    assert float(rows[0]["eigenvalue"]) == pytest.approx(float(true_rows[0]["eigenvalue"]), 1e-2)
    assert len(reported["residual"]) == 1


def test_the_micro_batch_changes_nothing_but_rounding(trained, tmp_path):
    _, whole = spectrum(trained, tmp_path, n=2, probes=1)
    _, parts = spectrum(trained, tmp_path, n=2, probes=1, micro_batch=9)
    for one, other in zip(whole, parts, strict=True):
        assert float(one["eigenvalue"]) == pytest.approx(float(other["eigenvalue"]), rel=1e-4)


def test_too_few_products_are_refused_before_anything_starts():
    study = load_study("quickstart", ["hessian.n=90", "hessian.max_products=180"])
    with pytest.raises(UserError, match="max_products is 180, and n = 90 needs at least 181"):
        make_plan(study)
