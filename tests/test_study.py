"""A sweep file is typed data; test_messages.py tells what is said of a wrong one."""

from __future__ import annotations

import pytest
from tiny_study import TINY_SWEEP

from rfray.study.sweep_file import load_study, overridden


def test_scientists_write_numbers_as_1e_4(tiny_sweep):
    study = load_study(str(tiny_sweep), ["train.learning_rate=1e-4"])
    assert study.stage_parameters()["train"].learning_rate == 1e-4


def test_an_override_leaves_the_document_alone():
    document = {"train": {"epochs": 1}}
    assert overridden(document, "train.epochs=2") == {"train": {"epochs": 2}}
    assert document == {"train": {"epochs": 1}}


def test_the_environment_names_the_default_sweep(monkeypatch, tiny_sweep):
    assert load_study(None).name == "quickstart"
    monkeypatch.setenv("RFRAY_SWEEP", str(tiny_sweep))
    assert load_study(None).name == "tiny"


def test_a_stage_set_to_false_is_not_run(tiny_sweep):
    study = load_study(str(tiny_sweep), ["hessian=false", "finetune=false"])
    assert set(study.stage_parameters()) == {"train", "prune", "cka", "importance"}


def test_a_stage_named_without_parameters_runs_with_its_defaults(tiny_sweep):
    study = load_study(str(tiny_sweep), ["prune=null", "finetune.epochs=1"])
    assert study.stage_parameters()["prune"].rates == [0.5, 0.6, 0.7, 0.8, 0.9]


@pytest.mark.parametrize(
    ("written", "seconds"), [("45", 45), ("1.5", 1.5), ("30s", 30), ("90m", 5400), ("2h", 7200)]
)
def test_a_time_limit_is_seconds_however_it_is_written(tmp_path, written, seconds):
    path = tmp_path / "tiny.yaml"
    path.write_text(TINY_SWEEP)
    study = load_study(str(path), [f"resources.hessian.time_limit={written}"])
    assert study.request("hessian").time_limit == seconds
    assert study.request("train").time_limit is None
