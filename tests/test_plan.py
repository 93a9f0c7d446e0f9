"""The plan is a keyed graph: equal work has an equal key, and growth keeps what is done."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter

import pytest
from tiny_study import TINY_RUNS

from rfray.commands.plan_report import plan_json, seeds_text
from rfray.errors import UserError
from rfray.parameters import Parameters
from rfray.plan import keys, make_plan
from rfray.study.sweep_file import load_study


@pytest.fixture
def plan_of(tiny_sweep):
    return lambda *overrides: make_plan(load_study(str(tiny_sweep), overrides))


def names(plan, keys_of):
    return {plan.nodes[key].name for key in keys_of}


def test_the_quickstart_has_every_run_of_the_study():
    plan = make_plan(load_study("quickstart"))
    assert len(plan.cells) == 16
    assert Counter(node.stage for node in plan.nodes.values()) == {
        "train": 16, "prune": 80, "finetune": 80, "hessian": 32, "cka": 16, "barrier": 8,
        "erf": 32, "probe": 16, "saturation": 32, "importance": 8,
    }  # fmt: skip


def test_runs_are_named_as_the_schema_says(plan_of):
    plan = plan_of("axes.seed=[0, 1]", "hessian.at=[init, trained]")
    assert {
        "vgg19_rf-digits-k5-seed0/train",
        "vgg19_rf-digits-k5-seed0/prune-0.9",
        "vgg19_rf-digits-k5-seed1/finetune-0.9",
        "vgg19_rf-digits-k5-seed0/hessian-init",
        "vgg19_rf-digits-k5-seed0/hessian-trained",
        "vgg19_rf-digits-k5/cka",
        "vgg19_rf-k5/importance",
    } <= names(plan, plan.nodes)


def test_what_cka_compares_by_default_keeps_its_key_and_name_beside_untrained_networks(plan_of):
    (usual,) = (node for node in plan_of().nodes.values() if node.stage == "cka")
    both = plan_of("cka.at=[trained,init]", "axes.cka.estimator=[biased,unbiased]")
    found = {node.name: node for node in both.nodes.values() if node.stage == "cka"}
    assert (usual.name, usual.variant) == ("vgg19_rf-digits-k5/cka", {})
    assert usual.params["at"] == "trained"
    assert found["vgg19_rf-digits-k5/cka-estimator=biased"].key == usual.key
    assert set(found) == {
        f"vgg19_rf-digits-k5/{moment}-estimator={estimator}"
        for moment in ("cka", "cka-init")
        for estimator in ("biased", "unbiased")
    }
    assert len({node.key for node in found.values()}) == 4


def test_the_unbiased_estimate_of_three_images_is_refused_before_anything_starts(plan_of):
    with pytest.raises(UserError, match=r"cka\.images is 3.* unbiased needs at least 4"):
        plan_of("cka.images=3", "cka.estimator=unbiased")


def test_names_tell_widths_apart_where_there_are_several(plan_of):
    plan = plan_of("axes.width=[0.0625, 0.125]")
    assert len(names(plan, plan.nodes)) == len(plan.nodes) == 2 * TINY_RUNS


def test_every_input_stands_before_its_reader_and_reads_the_right_node(plan_of):
    plan = plan_of()
    seen = set()
    for node in plan.nodes.values():
        assert set(node.inputs) <= seen
        seen.add(node.key)
        for key in node.inputs:
            source = plan.nodes[key]
            assert source.variant.items() <= node.variant.items()
            assert source.cells[0] in node.cells
    finetunes = [node for node in plan.nodes.values() if node.stage == "finetune"]
    assert all([plan.nodes[k].stage for k in node.inputs].count("prune") == 1 for node in finetunes)


def test_children_stand_under_their_train_run(plan_of):
    plan = plan_of()
    for node in plan.nodes.values():
        if node.stage in ("prune", "finetune", "hessian"):
            parent = plan.nodes[node.parent]
            assert parent.stage == "train"
            assert parent.cells == node.cells
        else:
            assert node.parent is None


def test_one_more_seed_adds_its_own_runs_and_the_group_it_enters(plan_of):
    before, after = plan_of(), plan_of("axes.seed=[0, 1, 2]")
    new = names(after, set(after.nodes) - set(before.nodes))
    assert set(before.nodes) - set(after.nodes) == {
        key for key, node in before.nodes.items() if node.stage == "cka"
    }
    assert all("seed2" in name or name.endswith("/cka") for name in new)
    assert len(new) == 7


def test_one_more_rate_adds_that_rate_alone(plan_of):
    before, after = plan_of(), plan_of("prune.rates=[0.5, 0.7, 0.9]")
    assert set(before.nodes) < set(after.nodes)
    assert all("-0.7" in name for name in names(after, set(after.nodes) - set(before.nodes)))


def test_the_study_and_its_order_do_not_enter_a_key(plan_of):
    assert set(plan_of().nodes) == set(plan_of("name=other", "axes.seed=[1, 0]").nodes)


def test_a_parameter_of_training_changes_all_that_follows_it(plan_of):
    before, after = plan_of(), plan_of("train.momentum=0.8")
    kept = set(before.nodes) & set(after.nodes)
    assert {before.nodes[key].stage for key in kept} == {"importance"}


def test_a_parameter_at_its_default_leaves_keys_alone(plan_of):
    assert set(plan_of().nodes) == set(plan_of("train.momentum=0.9").nodes)


def test_importance_is_shared_by_data_sets_and_seeds():
    plan = make_plan(load_study("quickstart"))
    importance = [node for node in plan.nodes.values() if node.stage == "importance"]
    assert all("dataset" not in node.params and "seed" not in node.params for node in importance)


def test_one_seed_has_no_alignment_and_the_plan_says_so(plan_of):
    plan = plan_of("axes.seed=[0]")
    assert not any(node.stage == "cka" for node in plan.nodes.values())
    assert any("cka compares seeds" in finding for finding in plan.findings)


def test_dead_taps_are_a_finding(plan_of):
    assert any("they only meet padding" in finding for finding in plan_of().findings)


def test_the_plan_as_json_has_the_promised_fields(plan_of):
    plan = plan_of()
    report = plan_json(plan, set(list(plan.nodes)[:3]), {}, ())
    assert report["study"] == "tiny"
    assert report["totals"]["runs"] == TINY_RUNS
    assert report["totals"]["done"] == 3
    promised = "arch dataset kernel_size seed receptive_field map_sizes parameters live_parameters"
    assert {*promised.split(), "stages"} <= set(report["cells"][0])


@pytest.mark.parametrize(
    ("seeds", "said"),
    [
        (1, "one seed: no difference between two settings can be tested"),
        (
            2,
            "2 seeds: a test (two-sided at 0.05, power 0.8) finds a difference between "
            "two settings of 5.7 standard deviations; a test paired by seed needs 3 seeds",
        ),
        (
            5,
            "5 seeds: a test (two-sided at 0.05, power 0.8) finds a difference between "
            "two settings of 2.0 standard deviations; paired by seed, of 1.7 standard deviations "
            "of the differences",
        ),
    ],
)
def test_the_plan_says_what_so_many_seeds_resolve(seeds, said):
    assert seeds_text(seeds) == said


def test_the_plan_as_json_says_what_the_fewest_seeds_resolve(plan_of):
    assert plan_json(plan_of("axes.seed=[0]"), (), {}, ())["seeds"] == {
        "fewest": 1, "resolves_unpaired": None, "resolves_paired": None
    }  # fmt: skip
    found = plan_json(plan_of("axes.seed=[0,1,2,3,4]"), (), {}, ())["seeds"]
    assert found["fewest"] == 5
    assert found["resolves_unpaired"] == pytest.approx(2.0244, abs=1e-4)
    assert found["resolves_paired"] == pytest.approx(1.6820, abs=1e-4)


def test_seeds_that_some_networks_lack_do_not_count(plan_of):
    rates = "axes.train.learning_rate=[0.1, 0.01]"
    assert plan_json(plan_of("axes.seed=[0,1,2]", rates), (), {}, ())["seeds"]["fewest"] == 3
    without = "exclude=[{train.learning_rate: 0.01, seed: 2}]"
    plan = plan_of("axes.seed=[0,1,2]", rates, without)
    assert plan_json(plan, (), {}, ())["seeds"]["fewest"] == 2


def test_a_digest_depends_on_content_alone():
    assert keys.digest({"a": 1, "b": [1.0, 2.5]}) == keys.digest({"b": (1, 2.5), "a": 1})
    assert keys.digest({"a": 1}) != keys.digest({"a": 2})
    with pytest.raises(TypeError, match="canonical"):
        keys.digest(object())


def test_a_digest_leaves_out_what_equals_its_default():
    class Settings(Parameters):
        epochs: int = 100
        rate: float = 0.1

    @dataclasses.dataclass(frozen=True)
    class Layer:
        kernel: tuple[int, ...] = (3, 3)

    assert keys.digest(Settings(epochs=100)) == keys.digest(Settings()) == keys.digest({})
    assert keys.digest(Settings(epochs=99)) == keys.digest({"epochs": 99})
    equal_but_another_object = tuple(3 for _ in range(2))
    assert keys.digest(Layer(equal_but_another_object)) == keys.digest(Layer())
    assert keys.digest(Layer((3, 1))) != keys.digest(Layer())


def test_nothing_that_is_no_number_gets_a_key():
    with pytest.raises(ValueError, match="JSON"):
        keys.digest({"rate": math.nan})
