"""Several processes that train one network on cards, or share one: as one process trains it.

Where there is one card, two processes share it, joined by Gloo; NCCL wants a card for each.
"""

from __future__ import annotations

import os

import pytest
import torch
from test_together import PROTOCOL, RESNET, VGG, members_of

from rfray.data.device import resident
from rfray.training.checkpoint import EpochRecord, load_checkpoint, save_checkpoint
from rfray.training.determinism import arithmetic_of
from rfray.training.loop import train_epochs
from rfray.training.optimization import optimizer_for
from rfray.training.together import epochs_on
from rfray.training.weights import initial_module

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")

TEAMS = [
    pytest.param(("cuda:0",), id="one, and NCCL"),
    pytest.param(("cuda:0", "cuda:0"), id="two that share a card"),
    pytest.param(
        ("cuda:0", "cuda:1"),
        id="two cards, and NCCL",
        marks=pytest.mark.skipif(torch.cuda.device_count() < 2, reason="there is one GPU"),
    ),
]
FLOAT32 = PROTOCOL.model_copy(update={"precision": "float32"})


@pytest.fixture(autouse=True)
def _float32_is_float32_in_all_processes(monkeypatch):
    monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", "0")


def begun(cell, protocol):
    module = initial_module(cell, "cuda")
    return module, optimizer_for(module, protocol)


def trained_alone(cell, protocol):
    module, optimizer = begun(cell, protocol)
    alone = protocol.model_copy(update={"cuda_graph": False})
    data = resident(cell.dataset, "cuda")
    with arithmetic_of(protocol):
        return module, list(train_epochs(module, optimizer, data, alone, cell.seed))


def moved_apart(module, other, cell):
    """How far two trained networks are from each other, in what training has moved one."""
    start = initial_module(cell, "cpu")
    one, two, origin = (
        torch.cat([part.detach().double().cpu().flatten() for part in network.parameters()])
        for network in (module, other, start)
    )
    return float((one - two).norm() / (two - origin).norm())


@pytest.mark.parametrize("devices", TEAMS)
def test_the_weights_are_those_of_one_process_to_rounding(devices):
    protocol = FLOAT32.model_copy(update={"epochs": 1, "learning_rate": 1e-3})
    alone, (expected,) = trained_alone(VGG, protocol)
    module, optimizer = begun(VGG, protocol)
    (found,) = epochs_on(devices, VGG, module, optimizer, protocol, 1)
    assert found.train_loss == pytest.approx(expected.train_loss, rel=1e-4)
    assert moved_apart(module, alone, VGG) < 0.02
    assert members_of(os.getpid()) == []


@pytest.mark.parametrize("devices", TEAMS)
@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_bfloat16_and_a_smaller_last_batch(devices, optimizer):
    own = {"optimizer": optimizer, "images_per_epoch": 67, "learning_rate": 1e-3}
    protocol = PROTOCOL.model_copy(update=own)
    _, expected = trained_alone(VGG, protocol)
    module, own_optimizer = begun(VGG, protocol)
    found = list(epochs_on(devices, VGG, module, own_optimizer, protocol, 1))
    losses = [[one.train_loss for one in epochs] for epochs in (found, expected)]
    assert losses[0] == pytest.approx(losses[1], rel=0.02)


@pytest.mark.parametrize("devices", TEAMS)
def test_residual_networks_and_a_checkpoint_between(devices, tmp_path):
    """With the parts of the momentum where the optimizer of a card wants them."""
    protocol = FLOAT32.model_copy(update={"learning_rate": 1e-4})
    cell = RESNET.model_copy(update={"width": 0.125})
    _, expected = trained_alone(cell, protocol)
    module, optimizer = begun(cell, protocol)
    epochs = epochs_on(devices, cell, module, optimizer, protocol, 1)
    first = next(epochs)
    epochs.close()
    path = tmp_path / "train.safetensors"
    save_checkpoint(path, module, optimizer, [EpochRecord(1, {})])
    module, optimizer = begun(cell, protocol)
    assert len(load_checkpoint(path, module, optimizer)) == 1
    (second,) = epochs_on(devices, cell, module, optimizer, protocol, 2)
    assert [first.train_loss, second.train_loss] == pytest.approx(
        [one.train_loss for one in expected], rel=1e-2
    )
