"""prune with every setting, what finetune then holds, and what a plan makes of the settings."""

from __future__ import annotations

from itertools import product

import pandas as pd
import pytest
import torch
from pydantic import ValidationError

from rfray.cell import Cell
from rfray.data.device import normalised, resident
from rfray.errors import UserError
from rfray.models.geometry import geometry
from rfray.plan import make_plan
from rfray.stages import finetune, prune
from rfray.stages.stage import Input, StageContext
from rfray.study.sweep_file import load_study
from rfray.training.batch_norms import renew_statistics
from rfray.training.weights import initial_module, load_changed, save_module

CELL = Cell(dataset="digits", arch="vgg19_rf", kernel_size=5, seed=3, width=0.0625)
NAMES = [layer.name for layer in CELL.network.weight_layers]
ALWAYS = {"test_accuracy", "accuracy_drop", "sparsity", "live_sparsity"}


def run(stage, folder, parameters, inputs, rate=0.9):
    """Run a stage in a folder of its own: its last metrics, its workspace."""
    for name in ("workspace", "checkpoint"):
        (folder / name).mkdir(parents=True)
    metrics = {}
    stage.run(
        StageContext(
            parameters=parameters,
            variant={"rate": rate},
            cells=(CELL,),
            inputs=inputs,
            workspace=folder / "workspace",
            checkpoint=folder / "checkpoint",
            device="cpu",
            report=lambda _step, values: metrics.update(values),
            remark=print,
        )
    )
    return metrics, folder / "workspace"


@pytest.fixture(scope="module")
def dense(tmp_path_factory):
    """A train input: fresh weights, with batch norms that know their maps."""
    module = initial_module(CELL, "cpu")
    data = resident("digits", "cpu")
    renew_statistics(module, normalised(data.train.images[:100], data.facts))
    folder = tmp_path_factory.mktemp("train")
    save_module(module, folder / "model.safetensors")
    return Input(stage="train", cell=CELL, folder=folder, metrics={"test_accuracy": 50.0})


def weights(folder, trained):
    module = load_changed(CELL, folder, trained.folder, "cpu")
    return {name: module.get_parameter(f"{name}.weight").detach() for name in NAMES}


def statistics(folder, trained):
    state = load_changed(CELL, folder, trained.folder, "cpu").state_dict()
    return {name: value for name, value in state.items() if "running" in name}


def settings(**changes):
    return prune.PruneParameters(rates=[0.9], **changes)


SCOPES = ("global", "layer")
CRITERIA = ("magnitude", "random", "lamp")
AMONG = ("all", "live")
REPAIRS = ("none", "batch_norm")
EVERY_PAIR = {
    ("global", "magnitude", "all", "none"),
    ("layer", "magnitude", "live", "batch_norm"),
    ("global", "random", "live", "none"),
    ("layer", "random", "all", "batch_norm"),
    ("global", "lamp", "all", "batch_norm"),
    ("layer", "lamp", "live", "none"),
}
"""Any two values of two settings are together in one of them; the other combinations take long."""

EVERY = [
    pytest.param(*chosen, marks=() if chosen in EVERY_PAIR else pytest.mark.long)
    for chosen in product(SCOPES, CRITERIA, AMONG, REPAIRS)
]


@pytest.mark.parametrize(("scope", "criterion", "among", "repair"), EVERY)
def test_every_combination_gives_equal_bits_twice_and_finetune_holds_what_was_pruned(
    tmp_path, dense, scope, criterion, among, repair
):
    chosen = settings(scope=scope, criterion=criterion, among=among, repair=repair)
    first, folder = run(prune, tmp_path / "first", chosen, (dense,))
    second, again = run(prune, tmp_path / "second", chosen, (dense,))
    assert first == second
    assert sorted(path.name for path in folder.iterdir()) == sorted(
        path.name for path in again.iterdir()
    )
    for path in folder.iterdir():
        assert path.read_bytes() == (again / path.name).read_bytes()
    shape = geometry(CELL.network, CELL.facts.image_size)
    prunable = [shape.layer(name) for name in NAMES[1:-1]]
    counts = [one.weights if among == "all" else one.live_weights for one in prunable]
    zeros = {name: weight == 0 for name, weight in weights(folder, dense).items()}
    expected = (
        round(0.9 * sum(counts)) if scope == "global" else sum(round(0.9 * n) for n in counts)
    )
    assert sum(int(zero.sum()) for zero in zeros.values()) == expected
    # Behind pruning all other weights are the dense ones; fine-tuning makes none of them zero.
    before = weights(dense.folder, dense)
    tuning = finetune.FinetuneParameters(epochs=1, images_per_epoch=64, learning_rate=0.01)
    pruned = Input(stage="prune", cell=CELL, folder=folder, metrics={})
    _, tuned = run(finetune, tmp_path / "tuned", tuning, (dense, pruned))
    behind = weights(folder, dense)
    for name, weight in weights(tuned, dense).items():
        assert torch.equal(behind[name][~zeros[name]], before[name][~zeros[name]])
        assert torch.equal(weight == 0, zeros[name])


def test_a_repair_changes_statistics_alone_and_tells_the_variance_by_layer(tmp_path, dense):
    plain, unrepaired = run(prune, tmp_path / "plain", settings(), (dense,))
    found, folder = run(prune, tmp_path / "repaired", settings(repair="batch_norm"), (dense,))
    assert set(plain) == ALWAYS
    ratios = {"activation_variance_ratio_pruned", "activation_variance_ratio_repaired"}
    assert set(found) == ALWAYS | ratios
    repaired = weights(folder, dense)
    assert all(torch.equal(repaired[n], w) for n, w in weights(unrepaired, dense).items())
    before, after = statistics(dense.folder, dense), statistics(folder, dense)
    without = statistics(unrepaired, dense)
    assert all(torch.equal(without[name], value) for name, value in before.items())
    assert not any(
        torch.equal(after[n], value) for n, value in before.items() if "1_norm1" not in n
    )
    table = pd.read_csv(folder / "activation_variance.csv", index_col="layer")
    assert list(table.index) == [layer.name for layer in CELL.network.batch_norms]
    assert list(table.columns) == ["dense", "pruned", "repaired"]
    for name in ("pruned", "repaired"):
        ratio = (table[name] / table["dense"]).prod() ** (1 / len(table))
        assert found[f"activation_variance_ratio_{name}"] == pytest.approx(ratio)
    # What no statistics bring back are channels whose every weight is gone: this network is small.
    assert found["activation_variance_ratio_pruned"] < 0.1
    assert 0.5 < found["activation_variance_ratio_repaired"] < 1


def test_more_repair_images_than_there_are_means_all_of_them_and_fewer_are_the_seeds(
    tmp_path, dense
):
    images = CELL.facts.train_images
    folders = {}
    for count in (100, images, 10 * images):
        chosen = settings(repair="batch_norm", repair_images=count)
        _, folders[count] = run(prune, tmp_path / str(count), chosen, (dense,))
    whole = statistics(folders[images], dense)
    assert all(torch.equal(whole[n], v) for n, v in statistics(folders[10 * images], dense).items())
    oracle = load_changed(CELL, folders[images], dense.folder, "cpu")
    data = resident("digits", "cpu")
    renew_statistics(oracle, normalised(data.train.images, data.facts))
    for name, value in oracle.state_dict().items():
        if name in whole:
            torch.testing.assert_close(whole[name], value, rtol=1e-5, atol=1e-6)
    few = statistics(folders[100], dense)
    name = "block4_norm8.running_var"
    assert not torch.allclose(few[name], whole[name], rtol=1e-3)


def test_a_network_without_batch_norms_has_nothing_to_repair(monkeypatch):
    from rfray.models.network import Network

    monkeypatch.setattr(Network, "batch_norms", ())
    assert prune.check(settings(), CELL) is None
    problem = prune.check(settings(repair="batch_norm"), CELL)
    assert problem == "prune.repair is batch_norm, but vgg19_rf has no batch norm"


@pytest.mark.parametrize(
    ("layers", "choices", "possible"),
    [
        (2, {}, False),
        (3, {}, True),
        (2, {"first_convolution": True}, True),
        (2, {"classifier": True}, True),
        (1, {"classifier": True}, False),
    ],
)
def test_a_network_of_which_everything_is_spared_is_refused(monkeypatch, layers, choices, possible):
    from rfray.models.network import Network

    monkeypatch.setattr(Network, "weight_layers", CELL.network.weight_layers[:layers])
    problem = prune.check(settings(**choices), CELL)
    assert (problem is None) == possible
    assert possible or "has nothing else to prune" in problem


def test_images_for_no_repair_are_a_contradiction():
    with pytest.raises(ValidationError, match="repair_images belongs to repair batch_norm"):
        settings(repair_images=100)


@pytest.fixture
def plan_of(tiny_sweep):
    return lambda *overrides: make_plan(load_study(str(tiny_sweep), overrides))


def test_the_controls_are_axes_that_keep_what_is_done(plan_of):
    before = plan_of()
    after = plan_of("axes.prune.among=[all, live]", "axes.prune.repair=[none, batch_norm]")
    assert set(before.nodes) < set(after.nodes)
    new = [after.nodes[key] for key in set(after.nodes) - set(before.nodes)]
    assert sorted(node.stage for node in new) == ["finetune"] * 12 + ["prune"] * 12
    names = {node.name for node in after.nodes.values()}
    assert len(names) == len(after.nodes)
    cell = "vgg19_rf-digits-k5-seed0"
    assert f"{cell}/prune-0.9-among=all-repair=none" in names
    assert f"{cell}/finetune-0.5-among=live-repair=batch_norm" in names


@pytest.mark.parametrize(
    "axis",
    [
        "axes.prune.scope=[global, layer]",
        "axes.prune.criterion=[magnitude, random, lamp]",
        "axes.prune.among=[all, live]",
        "axes.prune.repair=[none, batch_norm]",
    ],
)
def test_each_control_gives_each_of_its_values_a_key_and_the_default_the_old_one(plan_of, axis):
    before, after = plan_of(), plan_of(axis)
    values = axis.count(",") + 1
    pruned = [node for node in after.nodes.values() if node.stage == "prune"]
    assert len(pruned) == 4 * values
    assert len({node.settings[axis[5:].partition("=")[0]] for node in pruned}) == values
    assert set(before.nodes) < set(after.nodes)


def test_images_of_the_repair_are_given_where_there_is_one(plan_of):
    both = "axes.prune.repair=[none, batch_norm]"
    with pytest.raises(UserError, match="prune: repair_images belongs to repair batch_norm"):
        plan_of(both, "prune.repair_images=100")
    rule = "when=[{if: {prune.repair: batch_norm}, set: {prune.repair_images: 100}}]"
    plan = plan_of(both, rule)
    pruned = [node.parameters for node in plan.nodes.values() if node.stage == "prune"]
    assert {(one.repair, one.repair_images) for one in pruned} == {
        ("none", 2000), ("batch_norm", 100),
    }  # fmt: skip


def test_a_repair_is_planned_as_the_work_that_it_is():
    plain, repaired = (prune.work(settings(repair=r), CELL) for r in ("none", "batch_norm"))
    assert plain == CELL.facts.test_images * CELL.geometry.multiplications
    images = CELL.facts.train_images  # fewer than 2,000
    assert repaired - plain == 4 * images * CELL.geometry.multiplications
