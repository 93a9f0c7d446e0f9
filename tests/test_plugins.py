"""Stages, networks and data sets from outside: packages' entry points, and plug-in files."""

from __future__ import annotations

import subprocess
import sys

import pytest
from outside_packages import installed, stage_file
from tiny_study import TINY_SWEEP

from rfray import __version__
from rfray.cell import Cell
from rfray.cli import main
from rfray.commands.doctor import plugin_findings
from rfray.engine.assemble import assemble
from rfray.engine.places import Occupancy
from rfray.engine.shares import Grant
from rfray.engine.worker import run_job
from rfray.errors import UserError
from rfray.models.module import build
from rfray.models.outside import code_digest
from rfray.models.registry import architecture
from rfray.plan import make_plan
from rfray.plugins import use_plugin_files
from rfray.plugins.user_code import text_digest
from rfray.stages.registry import KEYS_OF_A_STUDY, stage_code, stages
from rfray.study import Study
from rfray.study.sweep_file import load_study
from rfray.tracking import RunRecord

ALL_STAGES = ("train", "prune", "finetune", "hessian", "cka", "importance")
NO_OWN_STAGE = [f"{stage}=false" for stage in ALL_STAGES]

NETS = """\
from torch import nn


def small_net(classes):
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, classes),
    )


def own_knob(kernel_size, width, classes):
    from rfray.models.network import Network
    from rfray.models.operations import Convolution, GlobalAveragePool, Linear

    network = Network().then("conv", Convolution(3, 8, kernel_size=kernel_size))
    network = network.then("second", Convolution(8, 8, kernel_size=1, padding=0))
    return network.then("pool", GlobalAveragePool()).then("fc", Linear(8, classes))


def forgets(classes):
    small_net(classes)


def raises(classes):
    return nn.Conv2d(classes)


NETWORKS = {"small_net": small_net, "own_knob": own_knob, "forgets": forgets, "raises": raises}
"""

DATA = """\
from dataclasses import replace

from rfray.data import digits
from rfray.data.dataset import Dataset, DatasetSource, Split

FACTS = replace(digits.FACTS, name="parity", fingerprint="parity-v1", classes=2)


def load():
    whole = digits.load()
    return Dataset(FACTS, *(Split(p.images, p.labels % 2) for p in (whole.train, whole.test)))


SOURCE = DatasetSource(FACTS, load)
"""


@pytest.fixture(autouse=True)
def _no_plugins_behind():
    yield
    use_plugin_files({})


@pytest.fixture
def site(tmp_path, monkeypatch):
    """A folder on Python's path, for packages."""
    before = set(sys.modules)
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))
    yield folder
    for name in set(sys.modules) - before:
        if str(folder) in (getattr(sys.modules[name], "__file__", None) or ""):
            del sys.modules[name]


def study_with(tmp_path, *overrides, **files):
    for name, text in files.items():
        (tmp_path / f"{name}.py").write_text(text)
    sweep = tmp_path / "tiny.yaml"
    sweep.write_text(TINY_SWEEP + f"plugins: [{', '.join(f'{name}.py' for name in files)}]\n")
    return load_study(str(sweep), overrides)


def counting(site, requires=(), text=None):
    """A package that offers the stage `counted`."""
    files = {"my_counts/__init__.py": "", "my_counts/stage.py": text or stage_file()}
    installed(site, "my-counts", files, {"stages": ["counted = my_counts.stage:STAGE"]}, requires)


def keys(plan):
    return {node.key for node in plan.nodes.values()}


def job_of(plan, folder):
    node = next(iter(plan.nodes.values()))
    run = RunRecord("r", "n", "RUNNING", 0, None, str(folder / "artifacts"), {}, {}, {})
    return assemble(plan, node, run, [], Grant(Occupancy(1, 0)), folder / "checkpoints", "")


# Packages


def test_a_stage_of_a_package_is_one_key_in_a_sweep_file(site, tmp_path):
    counting(site, requires=["rfray>=0.1", "rfray>=99; extra == 'gpu'"])
    plan = make_plan(study_with(tmp_path, *NO_OWN_STAGE, "counted={times: 2}"))
    (node,) = plan.nodes.values()
    assert (node.stage, node.params["times"]) == ("counted", 2)
    outcome = run_job(job_of(plan, tmp_path), lambda _: None)
    assert outcome.last_metrics == {"layers": 2 * len(list(node.cells[0].network))}
    assert not any("counted" in finding for finding in plan.findings)


def test_the_code_of_its_package_enters_a_stages_keys_and_no_others(site, tmp_path):
    counting(site)
    planned = ["counted={}", "axes.seed=[0]"]
    before = keys(make_plan(study_with(tmp_path, *planned)))
    assert len(before - keys(make_plan(study_with(tmp_path, "axes.seed=[0]")))) == 1
    (site / "my_counts" / "helper.py").write_text("EPSILON = 1\n")
    after = keys(make_plan(study_with(tmp_path, *planned)))
    assert len(before - after) == len(after - before) == 1
    assert stage_code("train") == ""


def test_a_package_that_cannot_be_used_is_told_in_one_line_and_the_others_go_on(site, tmp_path):
    counting(site)
    offers = [
        *(
            "late = not_there:STAGE",
            "older = my_counts.stage:STAGE",
            "train = my_counts.stage:STAGE",
        ),
        *("none = my_wrongs:NONE", "nothing = my_wrongs:STAGE", "reads_it = my_reader:STAGE"),
    ]
    files = {"my_wrongs.py": "STAGE = 3\n", "my_reader.py": stage_file("reads_it", ["missing"])}
    installed(site, "my-wrongs", files, {"stages": offers})
    newer = ["rfray>=99"]
    installed(
        site, "my-newer", {}, {"networks": ["resnet50 = x:f"], "datasets": ["s = x:S"]}, newer
    )
    plan = make_plan(study_with(tmp_path, "counted={}"))
    assert [node for node in plan.nodes.values() if node.stage == "counted"]
    told = "\n".join(plan.findings)
    for words in (
        "the stage 'late' of my-wrongs 1.0: it raises ModuleNotFoundError: No module named 'not_t",
        "the stage 'older' of my-wrongs 1.0: has the name 'counted'",
        "the stage 'train' of my-wrongs 1.0: its name is taken by rfray",
        "the stage 'none' of my-wrongs 1.0: it raises AttributeError: module 'my_wrongs' has no",
        "the stage 'nothing' of my-wrongs 1.0: is a int, not a rfray.stages.stage.Stage",
        "the stage 'reads_it' of my-wrongs 1.0: reads the stage 'missing', which does not exist",
        "the network 'resnet50' of my-newer 1.0: its name is taken by rfray",
        f"the data set 's' of my-newer 1.0: needs rfray >=99, but this is rfray {__version__}",
    ):
        assert told.count(words) == 1, words
    with pytest.raises(UserError, match=r"the stage 'late' of my-wrongs 1.0: it raises ModuleNot"):
        study_with(tmp_path, "late={}")
    with pytest.raises(UserError, match=r"data set 's' of my-newer 1.0: needs rfray >=99"):
        make_plan(study_with(tmp_path, "axes.dataset=[s]"))
    findings = {finding.words: finding.well for finding in plugin_findings()}
    assert findings["the stage 'counted' of my-counts 1.0"]
    assert sum(not well for well in findings.values()) == 8


def test_who_comes_second_with_a_name_is_told(site, tmp_path):
    counting(site)
    files = {"other.py": stage_file()}
    installed(site, "other-counts", files, {"stages": ["counted = other:STAGE"]})
    told = make_plan(study_with(tmp_path)).findings
    assert (
        "the stage 'counted' of other-counts 1.0: its name is taken by my-counts 1.0 "
        "(repair it, or uninstall other-counts 1.0)"
    ) in told
    # What the study itself lists goes before what is merely installed.
    study_with(tmp_path, mine=stage_file())
    assert stage_code("counted") == text_digest(stage_file())


def test_networks_of_a_package_are_names_in_the_axes(site, tmp_path):
    offers = [f"{name} = my_nets:{name}" for name in ("small_net", "own_knob", "forgets", "raises")]
    installed(site, "my-nets", {"my_nets.py": NETS}, {"networks": offers})
    as_is = ["axes.kernel_size=[1]", "axes.width=null"]
    (read, _) = make_plan(study_with(tmp_path, "axes.arch=[small_net]", *as_is)).cells
    assert read.geometry.receptive_field == 5
    assert "0.weight" in build(read.cell.network, 0).state_dict()
    described = make_plan(study_with(tmp_path, "axes.arch=[own_knob]", "axes.kernel_size=[3, 5]"))
    assert [one.geometry.receptive_field for one in described.cells] == [3, 3, 5, 5]
    for name, words in (
        ("forgets", r"forgets\(10\) gives nothing, not a torch.nn.Module"),
        ("raises", r"'raises' of my-nets 1.0: raises\(10\) raises TypeError: .*my_nets.py:25\)"),
        ("smal_net", r"no network is called 'smal_net' \(did you mean 'small_net'\?\)"),
    ):
        with pytest.raises(UserError, match=words):
            make_plan(study_with(tmp_path, f"axes.arch=[{name}]", *as_is))


def test_edited_code_of_a_network_makes_other_keys(site, tmp_path):
    installed(site, "my-nets", {"my_nets.py": NETS}, {"networks": ["own_knob = my_nets:own_knob"]})
    before = keys(make_plan(study_with(tmp_path, "axes.arch=[own_knob]")))
    (site / "my_nets.py").write_text(NETS + "# another thought\n")
    assert not before & keys(make_plan(study_with(tmp_path, "axes.arch=[own_knob]")))


def test_a_data_set_of_a_package_is_a_name_in_the_axes_at_any_size(site, tmp_path):
    offers = {"datasets": ["parity = my_data:SOURCE"]}
    installed(site, "my-data", {"my_data.py": DATA}, offers)
    plan = make_plan(study_with(tmp_path, "axes.dataset=[parity, parity@64]", "axes.seed=[0]"))
    sizes = {one.cell.dataset: one.cell.facts.image_size for one in plan.cells}
    assert sizes == {"parity": 32, "parity@64": 64}
    assert {one.cell.facts.classes for one in plan.cells} == {2}
    before = keys(plan)
    (site / "my_data.py").write_text(DATA + "# another thought\n")
    assert not before & keys(
        make_plan(study_with(tmp_path, "axes.dataset=[parity, parity@64]", "axes.seed=[0]"))
    ) - {node.key for node in plan.nodes.values() if node.stage == "importance"}


def test_a_worker_refuses_a_stage_whose_package_is_another_or_missing(site, tmp_path):
    counting(site)
    job = job_of(make_plan(study_with(tmp_path, *NO_OWN_STAGE, "counted={}")), tmp_path)
    (site / "my_counts" / "helper.py").write_text("EPSILON = 1\n")
    assert "'counted' here differs from the plan" in run_job(job, lambda _: None).reason
    elsewhere = job.model_copy(update={"stage": "absent"})
    assert "the stage 'absent' here is missing" in run_job(elsewhere, lambda _: None).reason


# Files


def test_a_file_offers_its_stage_its_source_and_its_networks(tmp_path):
    files = {"counts": stage_file(), "nets": NETS, "parity": DATA}
    axes = ["axes.arch=[small_net]", "axes.kernel_size=[1]", "axes.width=null"]
    study = study_with(tmp_path, *axes, "axes.dataset=[parity]", "counted={}", **files)
    plan = make_plan(study)
    assert {node.stage for node in plan.nodes.values()} >= {"counted", "train"}
    assert {cell.cell.facts.classes for cell in plan.cells} == {2}
    assert study.document()["plugins"] == ["counts.py", "nets.py", "parity.py"]


def test_an_edited_file_makes_other_keys_for_what_it_computes(tmp_path):
    first = make_plan(study_with(tmp_path, "counted={}", counts=stage_file()))
    edited = stage_file().replace("len(list", "1 + len(list")
    second = make_plan(study_with(tmp_path, "counted={}", counts=edited))
    assert {node.stage for node in second.nodes.values() if node.key not in first.nodes} == {
        "counted"
    }


def test_the_next_study_of_a_process_has_its_own_plugins(tmp_path):
    study_with(tmp_path, "counted={}", counts=stage_file())
    assert "counted" in stages()
    with pytest.raises(UserError, match="unknown key 'counted'"):
        study_with(tmp_path, "counted={}")
    assert "counted" not in stages()


def test_a_worker_needs_no_file_for_its_text_comes_with_the_job(tmp_path):
    plan = make_plan(study_with(tmp_path, *NO_OWN_STAGE, "counted={}", counts=stage_file()))
    job = job_of(plan, tmp_path).model_dump_json()
    (tmp_path / "counts.py").unlink()
    code = (
        "import sys; from rfray.engine.worker import run_task; "
        "from rfray.engine.job import Outcome; "
        "print(Outcome.model_validate_json(run_task(sys.stdin.read())).last_metrics)"
    )
    told = subprocess.run(
        [sys.executable, "-c", code], input=job, capture_output=True, text=True, check=True
    )
    assert told.stdout == f"{{'layers': {len(list(Cell.model_validate(CELL).network))}.0}}\n"


CELL = {"dataset": "digits", "arch": "vgg19_rf", "kernel_size": 5, "seed": 0, "width": 0.0625}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("import no_such_module\n", "mine.py:1: it raises ModuleNotFoundError"),
        ("def run(:\n", "mine.py:1: it raises SyntaxError"),
        ("STAGE = 3\n", "mine.py: STAGE is a int, not a stage"),
        ("from rfray.stages.train import STAGE\n", "its name is taken by rfray (repair it)"),
        (stage_file("data"), "its name is taken by rfray (repair it)"),
        (stage_file("follows", ["trian"]), "reads the stage 'trian', which does not exist"),
        (stage_file().replace('"counted"', '"two words"'), "its name may have only letters"),
        ("NETWORKS = [len]\n", "NETWORKS is a list, not a dictionary of names (write NETWORKS ="),
        ("NETWORKS = {'four': 4}\n", "mine.py: is a int, not a function"),
        ("NETWORKS = {'a:b': len}\n", "mine.py: its name may have only letters, digits"),
        ("import sys\nsys.exit(3)\n", "mine.py:2: it raises SystemExit: 3"),
        ("SOURCE = 'pictures'\n", "mine.py: SOURCE is a str, not a data set"),
        (stage_file().replace('"network"', '"search"'), "has the scope 'search'"),
        (stage_file().replace("class Counted", "class Other"), "raises NameError"),
    ],
    ids=lambda value: value[:20] if isinstance(value, str) else None,
)
def test_mistakes_in_a_file_are_told_in_one_line(tmp_path, text, words, capsys):
    (tmp_path / "mine.py").write_text(text)
    (tmp_path / "tiny.yaml").write_text(TINY_SWEEP + "plugins: [mine.py]\n")
    with pytest.raises(SystemExit) as left:
        main(["plan", str(tmp_path / "tiny.yaml")])
    told = capsys.readouterr().err
    assert left.value.code == 2
    assert words in told
    assert told.count("\n") == 1


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("plugins=[absent.py]", "plugins: there is no file 'absent.py' in "),
        ("plugins=mine.py", "plugins: input should be a valid list, but it is 'mine.py'"),
        ("plugins=[3]", "plugins.0: input should be a valid string"),
    ],
)
def test_mistakes_in_the_list_are_told(tmp_path, override, words):
    with pytest.raises(UserError) as refused:
        study_with(tmp_path, override)
    assert words in str(refused.value)


def test_no_stage_can_bear_the_name_of_a_key_of_the_study():
    assert set(KEYS_OF_A_STUDY) == set(Study.model_fields)


def test_own_networks_have_no_code_although_a_package_offers_their_name(site):
    installed(site, "my-nets", {"my_nets.py": NETS}, {"networks": ["vgg19_rf = my_nets:own_knob"]})
    assert code_digest("vgg19_rf") == ""
    assert architecture("vgg19_rf")(kernel_size=5, width=0.1, classes=2).origin is None
