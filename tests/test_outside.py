"""Networks from outside: by torchvision's name or from a file, each mistake told in one line."""

from __future__ import annotations

import pytest
import torch
from tiny_study import TINY_SWEEP

from rfray.analysis.document import parse_document
from rfray.cli import main
from rfray.engine.assemble import assemble
from rfray.engine.places import Occupancy
from rfray.engine.records import study_document
from rfray.engine.shares import Grant
from rfray.engine.worker import run_job
from rfray.errors import UserError
from rfray.models.module import build
from rfray.models.outside import (
    code_digest,
    naming_problem,
    network_folders_in_use,
    outside_network,
    use_network_folders,
)
from rfray.plan import make_plan
from rfray.study.sweep_file import load_study
from rfray.tracking import RunRecord

NETS = """\
import torch
from torch import nn


class Small(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.second = nn.Conv2d(4, 6, 3, stride=2)
        self.fc = nn.Linear(6, classes)
        nn.init.constant_(self.fc.bias, 7.0)

    def forward(self, x):
        x = torch.relu(self.second(torch.relu(self.conv(x))))
        return self.fc(x.mean((2, 3)))


def small_net(classes):
    return Small(classes)


def no_module(classes):
    return {"classes": classes}


def forgets(classes):
    Small(classes)


def raises(classes):
    return Small(classes, depth=3)


def ten(classes):
    return Small(10)
"""
AS_IS = ["axes.kernel_size=[1]", "axes.width=null"]
TRAINING = [f"{stage}=false" for stage in ("prune", "finetune", "hessian", "cka", "importance")]


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """The sweep file's folder, with a file of networks; the working directory is another one."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (tmp_path / "nets.py").write_text(NETS)
    (tmp_path / "tiny.yaml").write_text(TINY_SWEEP)
    monkeypatch.chdir(elsewhere)
    monkeypatch.setenv("RFRAY_NETWORKS", str(tmp_path))
    return tmp_path


def planned(folder, *overrides):
    return make_plan(load_study(str(folder / "tiny.yaml"), overrides))


def exit_code(*words):
    with pytest.raises(SystemExit) as left:
        main([*words])
    return left.value.code


def keys(plan):
    return {node.key for node in plan.nodes.values()}


def test_a_function_in_a_file_gives_a_network_with_its_own_initialisation():
    network = outside_network("nets.py:small_net", 1, 1.0, 5)
    first, again, other = (build(network, seed).state_dict() for seed in (0, 0, 1))
    assert set(first) == {
        f"{layer}.{part}" for layer in ("conv", "second", "fc") for part in ("weight", "bias")
    }
    assert torch.equal(first["fc.bias"], torch.full((5,), 7.0))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["conv.weight"], other["conv.weight"])


def test_reading_and_building_leave_the_random_state_as_it_was():
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    build(outside_network("nets.py:small_net", 1, 1.0, 3), 4)
    assert torch.equal(torch.rand(1), expected)


def test_a_file_is_found_beside_the_sweep_file_else_in_the_working_directory(folder):
    plan = planned(folder, "axes.arch=[nets.py:small_net]", *AS_IS)
    assert {cell.cell.geometry.receptive_field for cell in plan.cells} == {5}
    (folder / "elsewhere" / "other.py").write_text(NETS)
    planned(folder, "axes.arch=[other.py:small_net]", *AS_IS)
    assert network_folders_in_use() == [str(folder), str(folder / "elsewhere")]


def test_names_of_runs_are_safe_as_names_of_files(folder):
    (folder / "sub").mkdir()
    (folder / "sub" / "nets.py").write_text(NETS)
    plan = planned(folder, "axes.arch=[sub/nets.py:small_net]", *AS_IS)
    names = {node.name for node in plan.nodes.values()}
    assert "sub.nets.py.small_net-digits-k1-seed0/train" in names
    assert all(name.count("/") == 1 and ":" not in name for name in names)
    assert {node.params["arch"] for node in plan.nodes.values()} == {"sub/nets.py:small_net"}


def test_the_code_enters_the_keys_and_the_files_place_does_not(folder):
    before = keys(planned(folder, "axes.arch=[nets.py:small_net]", *AS_IS))
    (folder / "copy.py").write_text(NETS)
    assert keys(planned(folder, "axes.arch=[copy.py:small_net]", *AS_IS)) == before
    (folder / "nets.py").write_text(NETS.replace("7.0", "0.25"))
    after = keys(planned(folder, "axes.arch=[nets.py:small_net]", *AS_IS))
    assert not before & after


def test_own_and_outside_networks_stand_in_one_study(folder):
    arch = "axes.arch=[vgg19_rf, torchvision:squeezenet1_1]"
    kept = (
        "exclude=[{arch: vgg19_rf, kernel_size: [1]},"
        " {arch: torchvision:squeezenet1_1, kernel_size: [3]}]"
    )
    plan = planned(folder, arch, "axes.kernel_size=[1, 3]", "axes.width=null", kept)
    fields = {(one.cell.arch, one.cell.geometry.receptive_field) for one in plan.cells}
    assert fields == {("vgg19_rf", 359), ("torchvision:squeezenet1_1", 207)}
    alone = planned(folder, "axes.arch=[vgg19_rf]", "axes.kernel_size=[3]", "axes.width=null")
    assert keys(alone) < keys(plan)


def test_a_whole_study_runs_on_a_network_from_a_file(folder, monkeypatch):
    monkeypatch.delenv("RFRAY_NETWORKS")
    words = ["sweep", "--in-process", str(folder / "tiny.yaml"), "axes.arch=[nets.py:small_net]"]
    assert exit_code(*words, *AS_IS, "prune.rates=[0.5]", "axes.seed=[0, 1]") == 0


def test_a_network_of_torchvision_trains(folder):
    words = ["sweep", "--in-process", str(folder / "tiny.yaml"), *TRAINING, "axes.seed=[0]"]
    assert exit_code(*words, "axes.arch=[torchvision:shufflenet_v2_x0_5]", *AS_IS) == 0


def test_a_worker_refuses_code_that_was_not_planned(folder):
    plan = planned(folder, "axes.arch=[nets.py:small_net]", *AS_IS, *TRAINING)
    node = next(iter(plan.nodes.values()))
    run = RunRecord("r", "n", "RUNNING", 0, None, str(folder / "artifacts"), {}, {}, {})
    job = assemble(plan, node, run, [], Grant(Occupancy(1, 0)), folder / "checkpoints", "")
    (folder / "nets.py").write_text(NETS.replace("7.0", "0.25"))
    outcome = run_job(job, lambda _: None)
    assert outcome.status == "failed"
    assert "differs from the plan" in outcome.reason


MISTAKES = [
    ("torchvision:resnet81", "no classification network 'resnet81' (did you mean 'torchvision:res"),
    ("torchvison:resnet18", "'torchvison:resnet18' is not a network (write torchvision:resnet18"),
    ("tim:resnet18", "'tim:resnet18' is not a network"),
    ("net.py:small_net", "there is no file 'net.py' in "),
    ("nets.py:", "'nets.py:' has no name of a function (write nets.py:small_net)"),
    ("nets.py:smal_net", "has no function 'smal_net' (did you mean 'small_net'?)"),
    ("nets.py:no_module", "no_module(10) gives a dict, not a torch.nn.Module"),
    ("nets.py:forgets", "forgets(10) gives nothing, not a torch.nn.Module"),
    ("nets.py:raises", "nets.py:31: raises(10) raises TypeError"),
    ("broken.py:net", "broken.py:2: it raises SyntaxError"),
    ("raising.py:net", "raising.py:1: it raises ModuleNotFoundError"),
    ("empty.py:net", "has no function 'net' (it has no function at all)"),
    ("torchvision:inception_v3", "would have no pixel"),
]


@pytest.mark.parametrize(("name", "words"), MISTAKES, ids=[name for name, _ in MISTAKES])
def test_mistakes_are_told_in_one_line(name, words, folder, capsys):
    (folder / "broken.py").write_text("def net(classes):\n    return (\n")
    (folder / "raising.py").write_text("import no_such_module\n")
    (folder / "empty.py").write_text("")
    given = ["plan", str(folder / "tiny.yaml"), f"axes.arch=['{name}']", *AS_IS]
    assert exit_code(*given) == 2
    told = capsys.readouterr().err
    assert words in told
    assert told.count("\n") == 1


def test_several_widths_are_refused_for_a_network_that_has_one(folder):
    words = "width is 0.5, but this network cannot be changed"
    with pytest.raises(UserError, match=words):
        planned(folder, "axes.arch=[nets.py:small_net]", *AS_IS, "axes.width=[0.5, 1.0]")


def test_a_study_of_one_width_gives_it_to_the_networks_that_can_have_it(folder):
    both = planned(
        folder, "axes.arch=[vgg19_rf, nets.py:small_net]", *AS_IS, "axes.width=[0.5]"
    )  # fmt: skip
    assert {(c.cell.arch, c.cell.width) for c in both.cells} == {
        ("vgg19_rf", 0.5), ("nets.py:small_net", 1.0),
    }  # fmt: skip
    assert any("nets.py:small_net has a fixed width" in said for said in both.findings)
    alone = planned(folder, "axes.arch=[nets.py:small_net]", *AS_IS, "axes.width=[0.5]")
    usual = planned(folder, "axes.arch=[nets.py:small_net]", *AS_IS, "axes.width=[1.0]")
    assert alone.nodes.keys() == usual.nodes.keys()
    own = {key for c in both.cells if c.cell.arch == "vgg19_rf" for key in c.keys}
    vgg = planned(folder, "axes.arch=[vgg19_rf]", *AS_IS, "axes.width=[0.5]")
    assert own <= vgg.nodes.keys()
    # The analysis expands what the study document says to the same cells.
    read = parse_document(study_document(both), ())
    assert [dict(point) for point in read.points] == both.study.points()


def test_a_kernel_size_puts_the_pool_behind_the_first_convolution(folder):
    first, *_ = planned(
        folder, "axes.arch=[nets.py:small_net]", *AS_IS, "axes.kernel_size=[2]"
    ).cells
    assert [layer.name for layer in first.cell.network][:2] == ["conv", "receptive_field_pool"]


def test_a_network_must_have_as_many_logits_as_there_are_classes(folder):
    assert planned(folder, "axes.arch=[nets.py:ten]", *AS_IS)
    with pytest.raises(UserError, match="gives 10 logits, but there are 100 classes"):
        planned(folder, "axes.arch=[nets.py:ten]", *AS_IS, "axes.dataset=[cifar100]")


def test_own_networks_have_no_code_from_outside():
    assert code_digest("vgg19_rf") == ""


def test_folders_of_networks_are_those_in_use(folder):
    use_network_folders([folder / "elsewhere"])
    assert "there is no file 'nets.py'" in naming_problem("nets.py:small_net")
    use_network_folders([folder])
    assert naming_problem("nets.py:small_net") is None
