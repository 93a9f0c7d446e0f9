"""Optimizers, schedules, warm-up and label smoothing are PyTorch's own, step by step.

Each protocol is trained twice: by rfray, and by a loop that anyone would write with `torch.optim`
and its schedulers. Both send the same images through the same forward pass, so where nothing else
is said the weights behind every step are equal bit for bit.
"""

from __future__ import annotations

import os

import pytest
import torch
from pruned import masks_of
from pydantic import ValidationError
from torch.optim.lr_scheduler import (
    ConstantLR,
    CosineAnnealingLR,
    LinearLR,
    MultiStepLR,
    SequentialLR,
)

from rfray.cell import Cell
from rfray.data.augment import POLICIES, apply, draw
from rfray.data.device import gathered, normalised, resident
from rfray.numerics.live_taps import without_dead_taps
from rfray.plan import make_plan
from rfray.seeding import stream_seed
from rfray.stages.finetune import FinetuneParameters
from rfray.stages.train import TrainParameters
from rfray.study.sweep_file import load_study
from rfray.training.checkpoint import EpochRecord, load_checkpoint, save_checkpoint
from rfray.training.determinism import arithmetic_of
from rfray.training.loop import train_epochs
from rfray.training.optimization import learning_rates, optimizer_for
from rfray.training.protocol import TrainingProtocol
from rfray.training.pruning import apply_masks, hold_masks
from rfray.training.weights import initial_module

CELL = Cell(dataset="digits", arch="vgg19_rf", kernel_size=5, seed=3, width=0.0625)
EPOCHS, IMAGES, BATCH, CLIP = 4, 48, 16, 1.0


def protocol(**changes):
    settings = {"epochs": EPOCHS, "batch_size": BATCH, "images_per_epoch": IMAGES}
    return TrainingProtocol(**{**settings, "gradient_clip": CLIP, **changes})


def ours(chosen):
    """(learning rate, all weights) behind each of rfray's steps."""
    module = initial_module(CELL, "cpu")
    optimizer = optimizer_for(module, chosen)
    steps = []
    optimizer.register_step_post_hook(lambda *_: steps.append(taken(module, optimizer)))
    list(train_epochs(module, optimizer, resident("digits", "cpu"), chosen, CELL.seed))
    return steps


def plain(make_optimizer, make_scheduler, label_smoothing=0.0, augmentation="none"):
    """The same of a plain PyTorch loop, whose scheduler steps behind each epoch."""
    module = initial_module(CELL, "cpu")
    forward = without_dead_taps(module)
    optimizer = make_optimizer(module.parameters())
    scheduler = make_scheduler(optimizer)
    loss_of = torch.nn.CrossEntropyLoss(label_smoothing=label_smoothing)
    data, policy = resident("digits", "cpu"), POLICIES[augmentation]
    steps = []
    for epoch in range(1, EPOCHS + 1):
        module.train()
        seed = stream_seed(CELL.seed, "epoch", epoch)
        order = torch.randperm(len(data.train), generator=torch.Generator().manual_seed(seed))
        order = order[:IMAGES]
        crops = draw(
            policy, IMAGES, 32, torch.Generator().manual_seed(stream_seed(seed, "augmentation"))
        )
        for batch, crop in zip(order.split(BATCH), crops.split(BATCH), strict=True):
            images = normalised(apply(gathered(data.train.images, batch), crop, policy), data.facts)
            optimizer.zero_grad()
            loss_of(forward(images), data.train.labels[batch]).backward()
            torch.nn.utils.clip_grad_norm_(module.parameters(), CLIP)
            optimizer.step()
            steps.append(taken(module, optimizer))
        scheduler.step()
    return steps


def taken(module, optimizer):
    weights = torch.cat([weight.detach().flatten() for weight in module.parameters()])
    return optimizer.param_groups[0]["lr"], weights


def equal_bits(first, second):
    assert len(first) == len(second) == EPOCHS * IMAGES // BATCH
    for (rate, weights), (other_rate, other_weights) in zip(first, second, strict=True):
        assert rate == other_rate
        assert torch.equal(weights, other_weights)


def sgd(parameters, **options):
    return torch.optim.SGD(parameters, **{"lr": 0.1, "momentum": 0.9, **options})


def constant(optimizer):
    return ConstantLR(optimizer, factor=1.0)


OPTIMIZERS = {
    "sgd": (
        {"weight_decay": 0.01},
        lambda parameters: sgd(parameters, weight_decay=0.01),
    ),
    "without momentum": (
        {"momentum": 0.0, "weight_decay": 0.0},
        lambda parameters: torch.optim.SGD(parameters, lr=0.1),
    ),
    "nesterov": (
        {"nesterov": True, "momentum": 0.8, "weight_decay": 5e-4},
        lambda parameters: sgd(parameters, momentum=0.8, nesterov=True, weight_decay=5e-4),
    ),
    "adamw": (
        {"optimizer": "adamw", "learning_rate": 0.002, "weight_decay": 0.05},
        lambda parameters: torch.optim.AdamW(parameters, lr=0.002, weight_decay=0.05),
    ),
    "adamw with betas": (
        {
            "optimizer": "adamw", "betas": [0.8, 0.95], "learning_rate": 0.002, "weight_decay": 0.0
        },
        lambda parameters: torch.optim.AdamW(
            parameters, lr=0.002, betas=(0.8, 0.95), weight_decay=0.0
        ),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_an_optimizer_takes_the_steps_of_pytorchs(name):
    changes, make_optimizer = OPTIMIZERS[name]
    equal_bits(ours(protocol(schedule="constant", **changes)), plain(make_optimizer, constant))


def warmed(epochs, behind):
    """PyTorch's linear rise over so many epochs, then another scheduler."""

    def scheduler(optimizer):
        rise = LinearLR(optimizer, start_factor=1 / (epochs + 1), total_iters=epochs)
        return SequentialLR(optimizer, [rise, behind(optimizer)], milestones=[epochs])

    return scheduler


SCHEDULES = {
    "constant": ({"schedule": "constant"}, constant),
    "step": (
        {"schedule": "step", "milestones": [1, 3], "gamma": 0.3},
        lambda optimizer: MultiStepLR(optimizer, [1, 3], gamma=0.3),
    ),
    "linear": (
        {"schedule": "linear"},
        lambda optimizer: LinearLR(optimizer, 1.0, 0.0, total_iters=EPOCHS),
    ),
    "warm-up, constant": ({"schedule": "constant", "warmup_epochs": 3}, warmed(3, constant)),
    "warm-up, step": (
        {"schedule": "step", "milestones": [3], "gamma": 0.5, "warmup_epochs": 2},
        warmed(2, lambda optimizer: MultiStepLR(optimizer, [1], gamma=0.5)),
    ),
    "warm-up, linear": (
        {"schedule": "linear", "warmup_epochs": 1},
        warmed(1, lambda optimizer: LinearLR(optimizer, 1.0, 0.0, total_iters=EPOCHS - 1)),
    ),
}


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_schedule_has_the_learning_rates_of_pytorchs(name):
    changes, make_scheduler = SCHEDULES[name]
    equal_bits(ours(protocol(weight_decay=0.0, **changes)), plain(sgd, make_scheduler))


@pytest.mark.parametrize("warmup", [0, 1])
def test_cosine_is_pytorchs_to_rounding(warmup):
    # CosineAnnealingLR derives each rate from the one before, which rounds otherwise.
    def annealed(optimizer):
        return CosineAnnealingLR(optimizer, T_max=EPOCHS - warmup)

    mine = ours(protocol(schedule="cosine", warmup_epochs=warmup, weight_decay=0.0))
    theirs = plain(sgd, warmed(warmup, annealed) if warmup else annealed)
    for (rate, weights), (other_rate, other_weights) in zip(mine, theirs, strict=True):
        assert rate == pytest.approx(other_rate, rel=1e-12)
        torch.testing.assert_close(weights, other_weights, rtol=1e-4, atol=1e-6)


def test_label_smoothing_is_pytorchs():
    smoothed = plain(sgd, constant, label_smoothing=0.1)
    changes = {"schedule": "constant", "weight_decay": 0.0}
    equal_bits(ours(protocol(label_smoothing=0.1, **changes)), smoothed)
    assert not torch.equal(ours(protocol(**changes))[0][1], smoothed[0][1])


class ByHand:
    """How rfray has computed its learning rates from the first version on."""

    def __init__(self, optimizer):
        self.optimizer, self.epoch = optimizer, 0

    def step(self):
        from math import cos, pi

        self.epoch += 1
        self.optimizer.param_groups[0]["lr"] = 0.1 * (1 + cos(pi * self.epoch / EPOCHS)) / 2


@pytest.mark.parametrize("augmentation", ["none", "crop_flip"])
def test_defaults_give_the_very_numbers_that_they_always_gave(augmentation):
    before = plain(lambda p: sgd(p, weight_decay=5e-4), ByHand, augmentation=augmentation)
    equal_bits(ours(protocol(augmentation=augmentation)), before)


def test_learning_rates_in_figures():
    def rates(**changes):
        return learning_rates(TrainingProtocol(learning_rate=0.8, **changes))

    assert rates(epochs=3, schedule="constant") == (0.8, 0.8, 0.8)
    assert rates(epochs=4, schedule="linear") == pytest.approx((0.8, 0.6, 0.4, 0.2))
    assert rates(epochs=4, schedule="cosine") == pytest.approx(
        (0.8, 0.682843, 0.4, 0.117157), abs=1e-6
    )
    step = rates(epochs=4, schedule="step", milestones=[1, 3], gamma=0.5)
    assert step == pytest.approx((0.8, 0.4, 0.4, 0.2))
    warm = rates(epochs=6, schedule="constant", warmup_epochs=3)
    assert warm == pytest.approx((0.2, 0.4, 0.6, 0.8, 0.8, 0.8))
    warm_step = rates(epochs=5, schedule="step", milestones=[3], warmup_epochs=1)
    assert warm_step == pytest.approx((0.4, 0.8, 0.8, 0.08, 0.08))
    warm_cosine = rates(epochs=5, schedule="cosine", warmup_epochs=1)
    assert warm_cosine == pytest.approx((0.4, 0.8, 0.682843, 0.4, 0.117157), abs=1e-6)


INTERRUPTED = {
    "nesterov, step": {
        "nesterov": True, "schedule": "step", "milestones": [2, 3], "warmup_epochs": 1
    },
    "adamw, warm cosine": {"optimizer": "adamw", "learning_rate": 0.002, "warmup_epochs": 2},
    "adamw, linear": {"optimizer": "adamw", "learning_rate": 0.002, "schedule": "linear"},
}  # fmt: skip


@pytest.mark.parametrize("interrupted_after", [1, 3])
@pytest.mark.parametrize("name", INTERRUPTED)
def test_an_interrupted_run_goes_on_to_the_same_bits(tmp_path, name, interrupted_after):
    chosen, data = protocol(**INTERRUPTED[name]), resident("digits", "cpu")
    whole = ours(chosen)
    module = initial_module(CELL, "cpu")
    optimizer = optimizer_for(module, chosen)
    history = []
    for epoch in train_epochs(module, optimizer, data, chosen, CELL.seed):
        history.append(EpochRecord(epoch.epoch, {}))
        if epoch.epoch == interrupted_after:
            save_checkpoint(tmp_path / "train.safetensors", module, optimizer, history)
            break
    module = initial_module(CELL, "cpu")
    optimizer = optimizer_for(module, chosen)
    assert load_checkpoint(tmp_path / "train.safetensors", module, optimizer) == history
    steps = []
    optimizer.register_step_post_hook(lambda *_: steps.append(taken(module, optimizer)))
    first = interrupted_after + 1
    list(train_epochs(module, optimizer, data, chosen, CELL.seed, first_epoch=first))
    rest = whole[-len(steps) :]
    assert len(steps) == (EPOCHS - interrupted_after) * IMAGES // BATCH
    assert all(a[0] == b[0] and torch.equal(a[1], b[1]) for a, b in zip(steps, rest, strict=True))


@pytest.mark.parametrize("changes", [{"nesterov": True}, {"optimizer": "adamw"}])
def test_pruned_weights_stay_zero_under_every_optimizer(changes):
    module = initial_module(CELL, "cpu")
    names = CELL.network.weights
    masks = masks_of(module, names, 0.8)
    apply_masks(module, masks)
    hold_masks(module, masks)
    chosen = protocol(weight_decay=0.1, learning_rate=0.01, **changes)
    optimizer = optimizer_for(module, chosen)
    list(train_epochs(module, optimizer, resident("digits", "cpu"), chosen, CELL.seed))
    for name in names:
        weight = module.get_parameter(name)
        assert bool((weight[~masks[name]] == 0).all())
        assert bool((weight[masks[name]] != 0).any())


CONTRADICTIONS = [
    ({"optimizer": "adamw", "nesterov": True}, "nesterov is for sgd"),
    ({"optimizer": "adamw", "momentum": 0.8}, "momentum is for sgd"),
    ({"betas": [0.8, 0.9]}, "betas are for adamw"),
    ({"nesterov": True, "momentum": 0}, "nesterov needs a momentum"),
    ({"milestones": [2]}, "milestones belongs to schedule step, and the schedule is cosine"),
    ({"schedule": "linear", "gamma": 0.5}, "gamma belongs to schedule step"),
    ({"schedule": "step"}, "schedule step has no milestones"),
    ({"schedule": "step", "milestones": [2, 1]}, "do not ascend"),
    ({"schedule": "step", "milestones": [2, 2]}, "do not ascend"),
    ({"schedule": "step", "milestones": [4]}, "milestone 4 has no epoch after it: there are 4"),
    (
        {"schedule": "step", "milestones": [1, 3], "warmup_epochs": 1},
        "milestone 1 is not after the warm-up of 1 epochs",
    ),
    ({"warmup_epochs": 4}, "warmup_epochs is 4, and there are 4 epochs"),
]


@pytest.mark.parametrize(("changes", "words"), CONTRADICTIONS, ids=lambda v: str(v)[:40])
@pytest.mark.parametrize("parameters", [TrainParameters, FinetuneParameters])
def test_settings_that_contradict_each_other_are_no_protocol(parameters, changes, words):
    with pytest.raises(ValidationError, match=words):
        parameters(epochs=4, **changes)


def test_a_contradiction_at_one_point_of_the_grid_is_refused_with_the_point(tiny_sweep):
    from rfray.errors import UserError

    overrides = ["axes.train.optimizer=[sgd, adamw]", "train.momentum=0.8"]
    with pytest.raises(UserError, match=r"train.optimizer adamw: momentum is for sgd"):
        make_plan(load_study(str(tiny_sweep), overrides))


def test_every_setting_of_the_protocol_can_be_an_axis(tiny_sweep):
    plan = make_plan(
        load_study(
            str(tiny_sweep),
            [
                "train={epochs: 4, schedule: step, milestones: [2]}",
                "axes.train.milestones=[[1], [1, 3]]",
                "axes.train.nesterov=[false, true]",
                "axes.finetune.optimizer=[sgd, adamw]",
                "axes.seed=[0]",
            ],
        )
    )
    names = {node.name for node in plan.nodes.values()}
    assert len(names) == len(plan.nodes)
    cell = "vgg19_rf-digits-k5-seed0-nesterov=true-milestones=[1,3]"
    assert {f"{cell}/train", f"{cell}/finetune-0.9-optimizer=adamw"} <= names


def test_the_keys_of_a_known_study_are_what_they_always_were(tiny_sweep):
    plan = make_plan(load_study(str(tiny_sweep)))
    keys = {node.name: node.key for node in plan.nodes.values()}
    assert keys["vgg19_rf-digits-k5-seed0/train"] == "c9709dee5ff0894fb36be2c268572027"
    assert keys["vgg19_rf-digits-k5-seed0/prune-0.5"] == "13721764b914b65f92e8141e7b17a1d6"
    assert keys["vgg19_rf-digits-k5-seed0/finetune-0.5"] == "cec0cdd8553ff7bab88e78404f934860"
    assert keys["vgg19_rf-digits-k5-seed0/hessian-init"] == "c77cb421370d928e27868909bf43eca7"
    assert keys["vgg19_rf-digits-k5/cka"] == "d0073287c20832e2425e7bfc5916ebf0"
    shipped = make_plan(load_study("author"))
    keys = {node.name: node.key for node in shipped.nodes.values()}
    assert keys["vgg19_rf-cifar10-k2-seed0/train"] == "975d7ae7ce39ce5a844ea28f17e31bf8"


def test_determinism_is_asked_of_pytorch_for_as_long_as_the_stage_runs(monkeypatch):
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", True)
    with pytest.raises(RuntimeError, match="died"), arithmetic_of(protocol(deterministic=True)):
        assert torch.are_deterministic_algorithms_enabled()
        assert not torch.is_deterministic_algorithms_warn_only_enabled()
        assert not torch.backends.cudnn.benchmark
        assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
        raise RuntimeError("the stage died")
    assert not torch.are_deterministic_algorithms_enabled()
    assert torch.backends.cudnn.benchmark
    assert "CUBLAS_WORKSPACE_CONFIG" not in os.environ
    with arithmetic_of(protocol()):
        assert not torch.are_deterministic_algorithms_enabled()


def test_a_workspace_that_the_machine_sets_is_given_back(monkeypatch):
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":16:8")
    with arithmetic_of(protocol(deterministic=True)):
        pass
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":16:8"


def test_on_a_cpu_deterministic_training_gives_the_same_bits():
    chosen = protocol(deterministic=True)
    with arithmetic_of(chosen):
        inside = ours(chosen)
    equal_bits(inside, ours(protocol()))
