"""Any setting of a stage can be an axis; what was done before stays done."""

from __future__ import annotations

import io
from collections import Counter

import pytest
from rich.console import Console

from rfray.commands.plan_report import plan_json, plan_text
from rfray.commands.status import by_stage, choice_counts, status_json, status_text
from rfray.errors import UserError
from rfray.plan import make_plan
from rfray.study.sweep_file import load_study


@pytest.fixture
def plan_of(tiny_sweep):
    return lambda *overrides: make_plan(load_study(str(tiny_sweep), overrides))


def stages_of(plan, keys):
    return Counter(plan.nodes[key].stage for key in keys)


def names(plan):
    return {node.name for node in plan.nodes.values()}


def test_an_axis_of_training_makes_further_networks(plan_of):
    before = plan_of("train.learning_rate=0.1")
    after = plan_of("axes.train.learning_rate=[0.1, 0.01]")
    new = set(after.nodes) - set(before.nodes)
    assert set(before.nodes) < set(after.nodes)
    assert stages_of(after, new) == {"train": 2, "hessian": 2, "prune": 4, "finetune": 4, "cka": 1}
    assert len(after.cells) == 2 * len(before.cells)


def test_an_axis_of_a_dependent_stage_trains_nothing_anew(plan_of):
    before = plan_of("finetune.learning_rate=0.01")
    after = plan_of("axes.finetune.learning_rate=[0.01, 0.001]")
    new = set(after.nodes) - set(before.nodes)
    assert set(before.nodes) < set(after.nodes)
    assert stages_of(after, new) == {"finetune": 4}
    assert len(after.cells) == len(before.cells)


def test_an_axis_of_a_stage_makes_further_runs_of_those_that_read_it(plan_of):
    before, after = plan_of(), plan_of("axes.prune.classifier=[false, true]")
    new = set(after.nodes) - set(before.nodes)
    assert stages_of(after, new) == {"prune": 4, "finetune": 4}
    for node in after.nodes.values():
        if node.stage == "finetune":
            (pruned,) = (
                after.nodes[key] for key in node.inputs if after.nodes[key].stage == "prune"
            )
            assert pruned.settings == node.settings


def test_seeds_are_compared_where_all_else_is_equal(plan_of):
    plan = plan_of("axes.train.learning_rate=[0.1, 0.01]")
    groups = [node for node in plan.nodes.values() if node.stage == "cka"]
    assert len(groups) == 2
    for group in groups:
        rates = {plan.nodes[key].parameters.learning_rate for key in group.inputs}
        assert rates == {group.settings["train.learning_rate"]}


def test_names_and_params_say_what_varies_and_nothing_else(plan_of):
    plan = plan_of(
        "axes.train.learning_rate=[0.1, 0.10000001]",
        "axes.finetune.learning_rate=[0.01, 0.001]",
        "axes.train.momentum=[0.9]",
    )
    assert len(names(plan)) == len(plan.nodes)
    assert {
        "vgg19_rf-digits-k5-seed0-learning_rate=0.1/train",
        "vgg19_rf-digits-k5-seed0-learning_rate=0.10000001/prune-0.9",
        "vgg19_rf-digits-k5-seed1-learning_rate=0.1/finetune-0.5-learning_rate=0.001",
        "vgg19_rf-digits-k5-learning_rate=0.1/cka",
        "vgg19_rf-k5/importance",
    } <= names(plan)
    for node in plan.nodes.values():
        dotted = {name for name in node.params if "." in name}
        varying = {"train.learning_rate", "finetune.learning_rate"}
        assert dotted == {
            "finetune": varying, "importance": set(),
        }.get(node.stage, {"train.learning_rate"})  # fmt: skip


def test_settings_vary_together_where_they_are_zipped(tiny_sweep, plan_of):
    zipped = "zip=[{arch: vgg19_rf, width: 0.0625}, {arch: resnet50, width: 0.03125}]"
    plan = plan_of("axes.arch=null", "axes.width=null", zipped)
    assert {(one.cell.arch, one.cell.width) for one in plan.cells} == {
        ("vgg19_rf", 0.0625), ("resnet50", 0.03125),
    }  # fmt: skip


def test_what_is_excluded_is_not_planned(plan_of):
    plan = plan_of("axes.kernel_size=[2, 5]", "exclude=[{kernel_size: 5, seed: 1}]")
    assert {(one.cell.kernel_size, one.cell.seed) for one in plan.cells} == {(2, 0), (2, 1), (5, 0)}
    assert [n.name for n in plan.nodes.values() if n.stage == "cka"] == ["vgg19_rf-digits-k2/cka"]


def test_some_cells_get_other_settings_and_the_plan_shows_which(plan_of):
    rule = "when=[{if: {kernel_size: 5}, set: {train.epochs: 3, hessian.images: 6}}]"
    plan = plan_of("axes.kernel_size=[2, 5]", rule)
    report = plan_json(plan, (), {}, ())
    got = {(cell["kernel_size"], *cell["settings"]["train.epochs"]) for cell in report["cells"]}
    assert got == {(2, 1), (5, 3)}
    (small,) = (c for c in report["cells"] if c["kernel_size"] == 2 and c["seed"] == 0)
    assert small["settings"] == {"train.epochs": [1], "hessian.images": [4]}
    assert "hessian-init-images=4" in small["stages"]


def test_a_cell_that_gets_another_setting_has_the_key_of_a_study_that_says_it_for_all(plan_of):
    some = plan_of(
        "axes.kernel_size=[2, 5]", "when=[{if: {kernel_size: 5}, set: {train.epochs: 3}}]"
    )
    every = plan_of("train.epochs=3")
    trained = {key for key, node in every.nodes.items() if node.stage == "train"}
    assert trained <= set(some.nodes)


def test_a_list_can_be_the_value_of_an_axis_and_none_too(plan_of):
    plan = plan_of("axes.train.gradient_clip=[null, 1.0]")
    clips = {node.parameters.gradient_clip for node in plan.nodes.values() if node.stage == "train"}
    assert clips == {None, 1.0}


def test_settings_of_one_name_are_told_apart_by_their_stages(plan_of):
    plan = plan_of("axes.prune.classifier=[false, true]", "axes.finetune.epochs=[1, 2]")
    assert "vgg19_rf-digits-k5-seed0/finetune-0.9-classifier=true-epochs=2" in names(plan)


def test_an_axis_that_no_cell_can_have_is_refused_with_the_reason(plan_of):
    with pytest.raises(UserError, match="364 test images"):
        plan_of("axes.cka.images=[16, 1000]")


VARIED = ("axes.train.learning_rate=[0.1, 0.10000001]", "axes.prune.among=[all, live]")


def printed(text):
    console = Console(file=io.StringIO(), width=100)
    console.print(text)
    return console.file.getvalue()


def test_status_has_a_line_for_each_choice_and_keeps_values_that_print_alike_apart(plan_of):
    plan = plan_of(*VARIED)
    counts = choice_counts(plan, [])
    told = status_json(plan, counts)
    assert told["stages"]["prune"]["missing"] == 16
    rates = ("0.1", "0.10000001")
    assert [one["settings"] for one in told["settings"] if one["stage"] == "prune"] == [
        {"train.learning_rate": rate, "prune.among": among}
        for rate in rates
        for among in ("all", "live")
    ]
    lines = printed(status_text(plan, counts)).splitlines()
    for rate in rates:
        assert sum(f"rate {rate} " in line for line in lines) == 3  # train, hessian, cka
        assert sum(f"rate {rate}, prune.among live " in line for line in lines) == 2


def test_status_of_a_study_without_further_settings_is_a_line_a_stage(plan_of):
    plan = plan_of()
    counts = choice_counts(plan, [])
    assert status_json(plan, counts)["settings"] == []
    assert len(printed(status_text(plan, counts)).splitlines()) == 2 + len(by_stage(counts))


def test_the_plan_names_what_varies_by_stage(plan_of):
    lines = printed(plan_text(plan_of(*VARIED), (), {}, ())).splitlines()
    (train,) = (line for line in lines if line.startswith("train "))
    (prune,) = (line for line in lines if line.startswith("prune "))
    assert train.rstrip().endswith("train.learning_rate 0.1, 0.10000001")
    assert prune.rstrip().endswith("prune.among all, live")
    assert "settings that vary" not in printed(plan_text(plan_of(), (), {}, ()))
