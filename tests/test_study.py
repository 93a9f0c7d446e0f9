"""A sweep file is typed data: what is wrong with it is said in one line that names the thing."""

from __future__ import annotations

import pytest
from tiny_study import TINY_SWEEP

from rfray.errors import UserError
from rfray.plan import make_plan
from rfray.sweep_file import load_study, overridden

MISTAKES = [
    (["trian.epochs=3"], "unknown key 'trian'", "did you mean 'train'?"),
    (["train.epoch=3"], "unknown key 'epoch'", "did you mean 'epochs'?"),
    (["axes.kernelsize=[3]"], "unknown key 'kernelsize'", "did you mean 'kernel_size'?"),
    (["axes.arch=[vgg]"], "no network is called 'vgg'", "did you mean 'vgg19_rf'?"),
    (["axes.dataset=[digit]"], "no data set is called 'digit'", "did you mean 'digits'?"),
    (["axes.kernel_size=[1]"], "greater than or equal to 2", "it is 1"),
    (["axes.kernel_size=3"], "valid list", "write [3]"),
    (["axes.seed=[]"], "at least 1 item", "axes.seed"),
    (["axes.seed=[0, 0]"], "listed twice", "axes.seed"),
    (["axes.seed=[-1]"], "greater than or equal to 0", "axes.seed"),
    (["axes.width=[0]"], "greater than 0", "axes.width"),
    (["prune.rates=[1.0]"], "less than 1", "prune.rates"),
    (["prune.rates=[0]"], "greater than 0", "prune.rates"),
    (["prune.rates=[0.5, 0.5]"], "listed twice", "prune.rates"),
    (["train.epochs=three"], "valid integer", "'three'"),
    (["train.epochs=0"], "greater than or equal to 1", "train.epochs"),
    (["train.learning_rate=fast"], "valid number", "'fast'"),
    (["train.learning_rate=.inf"], "finite", "learning_rate"),
    (["hessian.at=[middle]"], "'init' or 'trained'", "hessian.at"),
    (["resources.trian.cpus=1"], "no stage is called 'trian'", "did you mean 'train'?"),
    (["resources.train.cpu=1"], "unknown key 'cpu'", "did you mean 'cpus'?"),
    (["resources.train.time_limit=soon"], "valid number", "'soon'"),
    (["resources.train.time_limit=0"], "greater than 0", "resources.train.time_limit"),
    (["resources.train.retries=-1"], "greater than or equal to 0", "resources.train.retries"),
    (["train=false"], "reads 'train', which the study does not run", "add a key"),
    (["name=../escape"], "pattern", "name"),
    (["name=a/b"], "pattern", "name"),
    (["cka.images=1000"], "364 test images", "cka.images"),
    (["nonsense"], "no override", "key=value"),
    (["train.epochs.more=1"], "no keys of its own", "train.epochs.more"),
    (["axes.seed=[0"], "axes.seed=[0", ""),
]


@pytest.mark.parametrize(("overrides", "what", "advice"), MISTAKES, ids=lambda v: str(v)[:40])
def test_a_mistake_is_named_in_one_line(tiny_sweep, overrides, what, advice):
    with pytest.raises(UserError) as caught:
        make_plan(load_study(str(tiny_sweep), overrides))
    message = str(caught.value)
    assert what in message or what in " ".join(overrides)
    assert advice in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("content", "what"),
    [
        ("", "empty"),
        ("- a\n- b\n", "list"),
        ("name: [", "no YAML"),
        ("name: a\nname: b\n", "stands twice"),
        ("name: !!python/object:os.system {}\n", "no YAML"),
        ("name: only\n", "axes' is missing"),
    ],
)
def test_a_file_that_is_no_study_is_refused(tmp_path, content, what):
    path = tmp_path / "bad.yaml"
    path.write_text(content)
    with pytest.raises(UserError, match=what) as caught:
        load_study(str(path))
    assert "bad.yaml" in str(caught.value)


def test_a_mistake_in_a_file_comes_with_its_line(tmp_path):
    path = tmp_path / "s.yaml"
    path.write_text(TINY_SWEEP.replace("seed: [0, 1]", "seed: [zero]"))
    with pytest.raises(UserError, match=r"s\.yaml:6: axes\.seed\.0"):
        load_study(str(path))


def test_a_sweep_that_is_not_there_is_named_with_its_nearest():
    with pytest.raises(UserError, match=r"did you mean 'quickstart'\?"):
        load_study("quikstart")
    with pytest.raises(UserError, match="no such sweep file"):
        load_study("nowhere/quickstart.yaml")


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
