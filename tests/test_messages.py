"""Every mistake that a user can make is told in one line: what is wrong, where, and what to do."""

from __future__ import annotations

import pytest
from tiny_study import TINY_SWEEP

from rfray.cli import main
from rfray.errors import nearest

SWEEP = "tiny.yaml"
REPORT = "title: T\ntables:\n  - id: one\n    title: One\n    columns: [{}]\n"
DENSE = "{name: dense, title: Dense, stage: train, metric: test_accuracy}"

IN_A_STUDY = [
    # what is given, where it is wrong, what is wrong with it and what to do
    ("trian.epochs=3", "command line: trian", "unknown key 'trian' (did you mean 'train'?)"),
    ("train.epoch=3", "train.epoch", "unknown key 'epoch' (did you mean 'epochs'?)"),
    ("axes.kernelsize=[3]", "axes.kernelsize", "(did you mean 'kernel_size'?)"),
    (
        "axes.arch=[vgg]",
        "command line: axes.arch",
        "no network is called 'vgg' (did you mean 'vgg19_rf'?)",
    ),
    (
        "axes.dataset=[digit]",
        "command line: axes.dataset",
        "no data set is called 'digit' (did you mean",
    ),
    (
        "axes.dataset=[digits@0]",
        "command line: axes.dataset",
        "has no size in pixels (write 'digits@64')",
    ),
    ("axes.dataset=[VOCDetection]", "command line: axes.dataset", "torchvision's VOCDetection"),
    ("axes.kernel_size=[0]", "axes.kernel_size.0", "greater than or equal to 1, but it is 0"),
    ("axes.kernel_size=null", "axes", "the key 'kernel_size' is missing (add kernel_size: [...])"),
    ("axes.knob=[strid]", "axes.knob", "no knob is called 'strid' (did you mean 'stride'?)"),
    (
        "axes.knob=[stride]",
        "axes",
        "'kernel_size' is for the knob 'pool', and the knob is 'stride' (write",
    ),
    ("axes.strength=[2]", "axes", "'kernel_size' and 'strength' both say how far the knob is"),
    ("axes.receptive_field=[181]", "axes", "(leave one of them out: axes.kernel_size=null)"),
    ("knobs.dilation.layers=[block4]", "knobs.dilation", "which the study does not turn (leave"),
    ("knobs.dilatoin.layers=[a]", "knobs.dilatoin", "(did you mean 'dilation'?)"),
    ("axes.kernel_size=3", "axes.kernel_size", "valid list, but it is 3 (write [3]"),
    ("axes.kernel_size=[9]", "vgg19_rf at kernel_size 9 on digits", "(use a smaller kernel_size"),
    ("axes.seed=[]", "axes.seed", "at least 1 item"),
    ("axes.seed=[0, 0]", "axes.seed", "listed twice"),
    ("axes.seed=[-1]", "axes.seed.0", "greater than or equal to 0, but it is -1"),
    ("axes.seed=[one]", "axes.seed.0", "valid integer"),
    ("axes.width=[0]", "axes.width.0", "greater than 0, but it is 0"),
    ("prune=3", "command line: prune", "it must have keys of its own, but it is 3"),
    ("prune.rates=[1.0]", "prune.rates.0", "less than 1, but it is 1.0"),
    ("prune.rates=[0]", "prune.rates.0", "greater than 0, but it is 0"),
    ("prune.rates=[0.5, 0.5]", "prune.rates", "listed twice"),
    ("prune.scope=local", "prune.scope", "'global' or 'layer', but it is 'local'"),
    ("prune.among=dead", "prune.among", "'all' or 'live', but it is 'dead'"),
    ("prune.repair_images=500", "tiny.yaml:9: prune", "and repair is none (leave it out)"),
    (
        "prune={repair: batch_norm, repair_images: 1}",
        "prune.repair_images",
        "greater than or equal to 2, but it is 1",
    ),
    ("train.epochs=three", "train.epochs", "valid integer"),
    ("train.epochs=0", "train.epochs", "greater than or equal to 1, but it is 0"),
    ("train.learning_rate=fast", "train.learning_rate", "valid number"),
    ("train.learning_rate=.inf", "train.learning_rate", "finite"),
    ("train.epochs.more=1", "train.epochs.more", "no keys of its own"),
    (
        "train={optimizer: adamw, nesterov: true}",
        "command line: train",
        "nesterov is for sgd, and the optimizer is adamw (leave nesterov out)",
    ),
    ("train.optimizer=adam", "train.optimizer", "'sgd' or 'adamw', but it is 'adam'"),
    ("train.schedule=step", "tiny.yaml:8: train", "(add milestones: [...], or take"),
    ("finetune.milestones=[3]", "tiny.yaml:10: finetune", "belongs to schedule step"),
    ("finetune.warmup_epochs=1", "tiny.yaml:10: finetune", "(warm up for fewer)"),
    (
        "data.validation=0",
        "command line: data.validation",
        "neither a number of images nor a share",
    ),
    (
        "data.validation=-5",
        "command line: data.validation",
        "(write one such as 5000, or one above",
    ),
    ("data.validation=1.0", "command line: data.validation", "1.0 is neither"),
    ("data.validation=many", "command line: data.validation", "'many' is neither"),
    (
        "data.validation=5",
        "data.validation",
        "of the 1,433 training images of digits, in 10 classes, 5 cannot be held out (hold out 10",
    ),
    ("data.validation=1430", "data.validation", "to 1,423, so that each class is in both parts)"),
    ("data.validation=0.999", "data.validation", "1,432 cannot be held out"),
    ("axes.data.validation=[10]", "axes.data.validation", "it is the same for the whole study"),
    ("train.label_smoothing=1", "train.label_smoothing", "less than 1, but it is 1"),
    ("train.betas=[0.9]", "train.betas", "at least 2 items"),
    ("hessian.at=[middle]", "hessian.at.0", "'init' or 'trained', but it is 'middle'"),
    ("hessian.at=[init, init]", "hessian.at", "listed twice"),
    ("hessian.images=100000", "hessian.images", "training images"),
    ("cka.images=1000", "cka.images", "364 test images"),
    (
        "resources.trian.cpus=1",
        "command line: resources",
        "no stage is called 'trian' (did you mean",
    ),
    ("resources.train.cpu=1", "resources.train.cpu", "unknown key 'cpu' (did you mean 'cpus'?)"),
    ("resources.train.time_limit=soon", "resources.train.time_limit", "valid number"),
    ("resources.train.time_limit=0", "resources.train.time_limit", "greater than 0, but it is 0"),
    ("resources.train.retries=-1", "resources.train.retries", "greater than or equal to 0"),
    ("resources.train.checkpoint_every=0", "resources.train.checkpoint_every", "equal to 1"),
    ("train=false", "cka", "reads 'train', which the study does not run"),
    ("name=../escape", "name", "pattern"),
    ("name=a/b", "name", "pattern"),
    ("axes.seed=[0", "axes.seed=[0", "expected ',' or ']'"),
    (
        "axes.learning_rate=[1]",
        "axes.learning_rate",
        "can vary (did you mean 'train.learning_rate'?)",
    ),
    ("axes.train.learning=[1]", "axes.train.learning", "(did you mean 'train.learning_rate'?)"),
    ("axes.train.learning_rate=0.1", "axes.train.learning_rate", "(write [0.1])"),
    ("axes.train.learning_rate=[fast]", "command line: axes.train.learning_rate.0", "valid number"),
    ("axes.train.learning_rate=[0]", "axes.train.learning_rate.0", "greater than 0, but it is 0"),
    ("axes.data.root=[a]", "axes.data.root", "the same for the whole study"),
    ("axes.prune.rates=[[0.5]]", "axes.prune.rates", "write prune.rates outside axes"),
    ("axes.seed=null", "axes", "the key 'seed' is missing (add seed: [...])"),
    ("zip=[{arch: resnet50}]", "command line: zip.0", "'arch' is in axes as well"),
    ("zip=[{arch: vgg}]", "command line: zip.0.arch", "no network is called 'vgg'"),
    ("exclude=[{seed: 7}]", "command line: exclude.0", "excludes nothing"),
    ("exclude=[{seed: [0, 1]}]", "command line: exclude", "excludes every combination"),
    ("exclude=[{sed: 0}]", "command line: exclude.0.sed", "(did you mean 'seed'?)"),
    ("exclude=[{train.epochs: 1}]", "exclude.0", "'train.epochs' is not an axis of this study"),
    ("exclude=[{zzzzzz: 0}]", "exclude.0.zzzzzz", "(`rfray reference` lists every setting)"),
    ("when=[{iff: {seed: 0}, set: {train.epochs: 2}}]", "when.0.iff", "(did you mean 'if'?)"),
    (
        "when=[{if: {seed: 0}, set: {seed: 1}}]",
        "when.0.set",
        "is an axis, which this would override",
    ),
    ("when=[{if: {seed: 9}, set: {train.epochs: 2}}]", "when.0.if", "holds for no combination"),
    (
        "when=[{if: {seed: 0}, set: {landscape.points: 2}}]",
        "when.0.set.landscape.points",
        "can vary",
    ),
    (".=3", "", "'.=3' is not a change of a setting (write key=value"),
]

IN_A_SWEEP_FILE = [
    ("", "bad.yaml", "empty"),
    ("- a\n- b\n", "bad.yaml", "list"),
    ("name: [", "bad.yaml:", "not YAML"),
    ("name: a\nname: b\n", "bad.yaml:2", "is there twice"),
    ("name: !!python/object:os.system {}\n", "bad.yaml:1", "not YAML"),
    ("name: only\n", "bad.yaml", "'axes' is missing"),
    (TINY_SWEEP.replace("seed: [0, 1]", "seed: [zero]"), "bad.yaml:6: axes.seed.0", "integer"),
]

IN_A_COMMAND = [
    (["plan", "quikstart"], "no sweep is called 'quikstart' (did you mean 'quickstart'?)"),
    (["plan", "nowhere/quickstart.yaml"], "nowhere/quickstart.yaml: there is no such sweep file"),
    (["plan", "quickstart", "importance"], "two sweeps are named, 'quickstart' and 'importance'"),
    (["plan", "--price", "2"], "--price: a price needs slots to pay for (add --slots N)"),
    (["plan", "--slots", "0"], "--slots"),
    (["plan", "--slots", "2", "--slot", "tpu"], "'tpu' is not one of 'gpu', 'cpu'"),
    (
        ["sweep", "--in-process", "--address", "auto"],
        "--in-process: it joins no cluster (leave --address out)",
    ),
    (["sweep", "--storge", "x"], "Did you mean"),
    (
        ["sweep", "--storage", "/proc/nowhere"],
        "/proc/nowhere: the storage folder cannot be written",
    ),
    (["sweep", "--tracking-uri", "http://127.0.0.1:9"], "http://127.0.0.1:9: the tracking store"),
    (["status", "--tracking-uri", "http://127.0.0.1:9"], "check the address"),
    (["analyze", "--storage", "empty"], "there are no results here (run a sweep first"),
    (["clean", "--storage", "empty"], "there are no results here (run a sweep first"),
    (["clean", "keep=[trian]"], "no stage is called 'trian' (did you mean 'train'?)"),
    (["weights", "a/train", "out", "--storage", "empty"], "there are no results here"),
    (["analyse"], "No such command 'analyse'"),
]

IN_A_REPORT = [
    ("title: T\ntabels: []\n", "unknown key 'tabels' (did you mean 'tables'?)"),
    ("title: [unclosed\n", ":2: is not YAML"),
    ("tables: []\n", "title: Field required"),
    (REPORT.format(DENSE.replace("metric", "metrc")), "(did you mean 'metric'?)"),
    (REPORT.format("{name: a, title: A, stage: prune, metric: sparsity}"), "needs a rate"),
    ("title: T\nfigures:\n  - {id: a, title: A, kind: spectrum}\n", "figure 'a': kind"),
]


def test_there_are_at_least_forty():
    assert len(IN_A_STUDY) + len(IN_A_SWEEP_FILE) + len(IN_A_COMMAND) + len(IN_A_REPORT) >= 40


@pytest.fixture
def message(tmp_path, monkeypatch, capsys):
    """The one line that a command line gives, which starts nothing and leaves with 2."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")

    def give(*arguments):
        with pytest.raises(SystemExit) as left:
            main([str(argument) for argument in arguments])
        told = capsys.readouterr()
        assert left.value.code == 2, told
        assert all(said.startswith("note: ") for said in told.out.splitlines())
        (line,) = told.err.splitlines()
        assert line.startswith("rfray: ")
        assert not list(tmp_path.rglob("mlflow.db"))
        return line

    return give


@pytest.mark.parametrize(("change", "where", "what"), IN_A_STUDY, ids=lambda v: str(v)[:40])
def test_of_a_study(message, tmp_path, change, where, what):
    (tmp_path / SWEEP).write_text(TINY_SWEEP)
    line = message("sweep", SWEEP, change)
    assert where in line
    assert what in line


@pytest.mark.parametrize(("text", "where", "what"), IN_A_SWEEP_FILE, ids=lambda v: str(v)[:40])
def test_of_a_sweep_file(message, tmp_path, text, where, what):
    (tmp_path / "bad.yaml").write_text(text)
    line = message("sweep", "bad.yaml")
    assert where in line
    assert what in line


@pytest.mark.parametrize(("arguments", "what"), IN_A_COMMAND, ids=lambda v: str(v)[:60])
def test_of_a_command(message, arguments, what):
    assert what in message(*arguments)


@pytest.mark.parametrize(("text", "what"), IN_A_REPORT, ids=lambda v: str(v)[:40])
def test_of_a_report_file(message, tmp_path, text, what):
    (tmp_path / "report.yaml").write_text(text)
    line = message("analyze", "report.yaml")
    assert "report.yaml" in line
    assert what in line


def test_of_very_many_names_the_first_are_told():
    assert nearest("zzz", (f"run{number:03}" for number in range(320))) == (
        "valid: run000, run001, run002, run003, run004 and 315 more"
    )
    assert nearest("zzz", ("a", "b")) == "valid: a, b"
