"""Training on a card: as a processor trains, without waiting, as a graph, compiled, bit for bit."""

from __future__ import annotations

import pytest
import torch
from test_training import CELL, PROTOCOL, same_weights

from rfray.data.device import normalised, resident
from rfray.training import loop
from rfray.training.checkpoint import EpochRecord, load_checkpoint, save_checkpoint
from rfray.training.determinism import arithmetic_of
from rfray.training.evaluate import evaluate
from rfray.training.loop import train_epochs
from rfray.training.optimization import optimizer_for
from rfray.training.pruning import hold_masks, zero_masks
from rfray.training.step import autocast_dtype
from rfray.training.weights import initial_module

FLOAT32 = PROTOCOL.model_copy(
    update={"precision": "float32", "learning_rate": 0.02, "images_per_epoch": 7 * 32 + 5}
)
CELLS = [CELL, CELL.model_copy(update={"arch": "resnet50", "kernel_size": 3})]
NAMES = [cell.arch for cell in CELLS]


def trained(cell, protocol, device="cuda", module=None, optimizer=None, first_epoch=1):
    module = module or initial_module(cell, device)
    optimizer = optimizer or optimizer_for(module, protocol)
    data = resident(cell.dataset, device)
    with arithmetic_of(protocol):
        epochs = list(
            train_epochs(module, optimizer, data, protocol, cell.seed, first_epoch=first_epoch)
        )
    return module, optimizer, epochs


def distance(first, second):
    """‖difference‖ / ‖first‖ over all weights."""
    pairs = [
        (a.detach().double().cpu().flatten(), b.detach().double().cpu().flatten())
        for a, b in zip(first.parameters(), second.parameters(), strict=True)
    ]
    one, other = (torch.cat(side) for side in zip(*pairs, strict=True))
    return float((one - other).norm() / one.norm())


def test_pixels_are_the_processors():
    here, there = (resident("digits", device) for device in ("cpu", "cuda"))
    expected = normalised(here.test.images, here.facts)
    found = normalised(there.test.images, there.facts).cpu()
    assert torch.allclose(found, expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize(("cell", "steps", "allowed"), [(CELL, 3, 1e-3), (CELLS[1], 1, 0.2)])
def test_a_few_steps_are_the_processors_to_rounding(cell, steps, allowed):
    """Measured by how far training has moved them.

    Rounding grows, in resnet50 at 1/16 of its width from the first step on: its batch norms divide
    by the deviation of maps that hardly vary.
    """
    protocol = FLOAT32.model_copy(update={"epochs": 1, "images_per_epoch": 32 * steps})
    here, _, (epoch_here,) = trained(cell, protocol, "cpu")
    there, _, (epoch_there,) = trained(cell, protocol)
    moved = distance(initial_module(cell, "cpu"), here)
    assert moved > 1e-4
    assert distance(here, there) < allowed * moved
    assert epoch_there.train_loss == pytest.approx(epoch_here.train_loss, rel=1e-4)


@pytest.mark.parametrize("cell", CELLS, ids=NAMES)
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_two_deterministic_runs_are_equal_to_the_bit(cell, precision):
    protocol = FLOAT32.model_copy(update={"deterministic": True, "precision": precision})
    first, _, epochs = trained(cell, protocol)
    second, _, again = trained(cell, protocol)
    assert [epoch.train_loss for epoch in epochs] == [epoch.train_loss for epoch in again]
    assert same_weights(first, second)


def test_a_deterministic_run_that_was_interrupted_ends_in_the_same_bits(tmp_path):
    protocol = FLOAT32.model_copy(update={"deterministic": True, "precision": "auto"})
    whole, _, _ = trained(CELL, protocol)
    module = initial_module(CELL, "cuda")
    optimizer = optimizer_for(module, protocol)
    data = resident("digits", "cuda")
    with arithmetic_of(protocol):
        next(train_epochs(module, optimizer, data, protocol, CELL.seed))
    path = tmp_path / "train.safetensors"
    save_checkpoint(path, module, optimizer, [EpochRecord(1, {})])
    module = initial_module(CELL, "cuda")
    optimizer = optimizer_for(module, protocol)
    assert len(load_checkpoint(path, module, optimizer)) == 1
    trained(CELL, protocol, module=module, optimizer=optimizer, first_epoch=2)
    assert same_weights(whole, module)


@pytest.mark.parametrize("cell", CELLS, ids=NAMES)
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_graphed_step_trains_as_the_plain_one(cell, precision):
    """To the bit: the same kernels, launched otherwise."""
    protocol = FLOAT32.model_copy(
        update={"epochs": 2, "precision": precision, "deterministic": True, "cuda_graph": False}
    )
    plain, _, epochs = trained(cell, protocol)
    graphed, _, again = trained(cell, protocol.model_copy(update={"cuda_graph": None}))
    assert [e.train_loss for e in again] == [e.train_loss for e in epochs]
    assert [e.train_accuracy for e in again] == [e.train_accuracy for e in epochs]
    assert same_weights(plain, graphed)


def test_a_graph_is_replayed_where_one_is_asked_for(monkeypatch):
    replays = []
    real = torch.cuda.CUDAGraph.replay
    monkeypatch.setattr(
        torch.cuda.CUDAGraph, "replay", lambda graph: (replays.append(1), real(graph))
    )
    trained(CELL, FLOAT32.model_copy(update={"epochs": 2}))
    assert len(replays) == 2 * (7 - 3)
    trained(CELL, FLOAT32.model_copy(update={"epochs": 2, "cuda_graph": False}))
    assert len(replays) == 2 * (7 - 3)


def test_pruned_weights_stay_zero_in_a_graph_too():
    protocol = FLOAT32.model_copy(update={"epochs": 2, "deterministic": True, "cuda_graph": False})

    def finetuned(protocol):
        module = initial_module(CELL, "cuda")
        with torch.no_grad():
            for weight in module.parameters():
                weight[weight.abs() < weight.abs().median()] = 0
        names = [layer.name for layer in CELL.network.weight_layers]
        masks = zero_masks(module, names)
        hold_masks(module, masks)
        trained(CELL, protocol, module=module)
        assert all((module.get_submodule(n).weight[~m] == 0).all() for n, m in masks.items())
        return module

    assert same_weights(
        finetuned(protocol), finetuned(protocol.model_copy(update={"cuda_graph": None}))
    )


def test_a_compiled_network_trains_to_rounding():
    protocol = FLOAT32.model_copy(update={"epochs": 1, "images_per_epoch": 96})
    plain, _, _ = trained(CELL, protocol)
    compiled, _, _ = trained(CELL, protocol.model_copy(update={"compile": True}))
    assert distance(plain, compiled) < 1e-4


@pytest.mark.parametrize("augmentation", ["none", "crop_flip", "resized_crop_flip"])
def test_a_step_never_waits_for_the_card(augmentation):
    """CUDA itself says so: a call that waits raises."""
    protocol = FLOAT32.model_copy(update={"augmentation": augmentation, "precision": "auto"})
    data = resident("digits", "cuda")
    module = initial_module(CELL, "cuda")
    optimizer = optimizer_for(module, protocol)
    step = loop.plain_step(loop._forward(module, protocol), optimizer, data, protocol)
    policy = loop.augmentation_of(protocol, data.facts)
    crops = loop.draw(policy, 32, data.facts.image_size, torch.Generator().manual_seed(0))
    crops = crops.to(torch.device("cuda"))
    batch = torch.arange(32, device="cuda")
    step(batch, crops)
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(3):
            step(batch, crops)
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_sgd_updates_all_parameters_by_one_kernel_and_as_ever_to_rounding():
    protocol = FLOAT32.model_copy(
        update={"epochs": 1, "images_per_epoch": 64, "deterministic": True}
    )
    module = initial_module(CELL, "cuda")
    optimizer = optimizer_for(module, protocol)
    assert optimizer.defaults["fused"]
    fused, _, _ = trained(CELL, protocol, module=module, optimizer=optimizer)
    module = initial_module(CELL, "cuda")
    ordinary = torch.optim.SGD(
        module.parameters(),
        lr=protocol.learning_rate,
        momentum=protocol.momentum,
        weight_decay=protocol.weight_decay,
    )
    plain, _, _ = trained(CELL, protocol, module=module, optimizer=ordinary)
    assert distance(plain, fused) < 1e-4


def test_auto_is_bfloat16_and_learns():
    assert autocast_dtype(PROTOCOL, "cuda") == torch.bfloat16
    protocol = PROTOCOL.model_copy(update={"epochs": 6, "images_per_epoch": 1024})
    module, _, epochs = trained(CELL, protocol)
    data = resident("digits", "cuda")
    assert epochs[-1].train_loss < epochs[0].train_loss
    assert evaluate(module, data.test, data.facts).accuracy > 30


def test_adamw_goes_on_from_its_checkpoint(tmp_path):
    protocol = FLOAT32.model_copy(
        update={"optimizer": "adamw", "learning_rate": 0.001, "deterministic": True}
    )
    whole, _, _ = trained(CELL, protocol)
    module = initial_module(CELL, "cuda")
    optimizer = optimizer_for(module, protocol)
    with arithmetic_of(protocol):
        next(train_epochs(module, optimizer, resident("digits", "cuda"), protocol, CELL.seed))
    path = tmp_path / "train.safetensors"
    save_checkpoint(path, module, optimizer, [EpochRecord(1, {})])
    module = initial_module(CELL, "cuda")
    optimizer = optimizer_for(module, protocol)
    load_checkpoint(path, module, optimizer)
    trained(CELL, protocol, module=module, optimizer=optimizer, first_epoch=2)
    assert same_weights(whole, module)
