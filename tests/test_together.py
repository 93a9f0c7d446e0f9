"""Several processes that train one network together: the weights of one process, to rounding."""

from __future__ import annotations

import os
import signal
import time

import psutil
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing
from torch import nn

from rfray.cell import Cell
from rfray.data.device import resident
from rfray.errors import LostProcessError
from rfray.models.module import build
from rfray.training.checkpoint import EpochRecord, load_checkpoint, save_checkpoint
from rfray.training.loop import LossNotFiniteError, train_epochs
from rfray.training.optimization import optimizer_for
from rfray.training.protocol import TrainingProtocol
from rfray.training.synchronised import SYNCHRONISED
from rfray.training.team import Team
from rfray.training.together import MemberError, epochs_on
from rfray.training.weights import initial_module

VGG = Cell(dataset="digits", arch="vgg19_rf", kernel_size=5, seed=3, width=0.0625)
RESNET = Cell(dataset="digits", arch="resnet50", kernel_size=5, seed=3, width=0.03125)
PROTOCOL = TrainingProtocol(
    epochs=2, batch_size=32, images_per_epoch=100, learning_rate=0.02, augmentation="crop_flip"
)
TWO = ("cpu", "cpu")


class Doubled(nn.Module):
    """A network in double precision, for images in single."""

    def __init__(self, module):
        super().__init__()
        self.module = module.double()

    def forward(self, images):
        return self.module(images.double())


def trained_alone(cell, protocol):
    module = initial_module(cell, "cpu")
    optimizer = optimizer_for(module, protocol)
    data = resident(cell.dataset, "cpu")
    return module, list(train_epochs(module, optimizer, data, protocol, cell.seed))


def begun(cell, protocol, devices=TWO, first_epoch=1, module=None, optimizer=None):
    module = module or initial_module(cell, "cpu")
    optimizer = optimizer or optimizer_for(module, protocol)
    return module, optimizer, epochs_on(devices, cell, module, optimizer, protocol, first_epoch)


def apart(first, second):
    """The largest distance of two networks' tensors, by the size of each."""
    pairs = zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    return max(
        float((a - b).norm() / (b.norm() + 1e-12)) for a, b in pairs if b.is_floating_point()
    )


def in_double(rank, size, cell, protocol, folder):
    """A member of a team, or the only one: leaves its network's state."""
    torch.set_num_threads(1)
    if size > 1:
        os.environ["GLOO_SOCKET_IFNAME"] = "lo"
        place = f"file://{folder}/store"
        dist.init_process_group("gloo", init_method=place, rank=rank, world_size=size)
    module = Doubled(build(cell.network, cell.seed, SYNCHRONISED["cpu"] if size > 1 else {}))
    optimizer = optimizer_for(module, protocol)
    data, team = resident(cell.dataset, "cpu"), Team(rank, size)
    results = list(train_epochs(module, optimizer, data, protocol, cell.seed, team=team))
    torch.save((module.state_dict(), results[-1].train_loss), f"{folder}/{size}-{rank}.pt")


@pytest.mark.parametrize("cell", [VGG, RESNET], ids=["VGG", "ResNet"])
def test_in_double_precision_three_processes_find_the_weights_of_one(cell, tmp_path):
    """Batches of 7 and a last one of 2: the parts are uneven, and one has no image of the last."""
    protocol = PROTOCOL.model_copy(
        update={"epochs": 1, "batch_size": 7, "images_per_epoch": 23, "learning_rate": 1e-3, "label_smoothing": 0.1}
    )
    in_double(0, 1, cell, protocol, tmp_path)
    torch.multiprocessing.start_processes(
        in_double, (3, cell, protocol, tmp_path), nprocs=3, start_method="fork"
    )
    alone, loss = torch.load(tmp_path / "1-0.pt")
    for rank in range(3):
        state, own_loss = torch.load(tmp_path / f"3-{rank}.pt")
        assert own_loss == pytest.approx(loss, rel=1e-6)
        for name, tensor in alone.items():
            torch.testing.assert_close(state[name], tensor, rtol=1e-10, atol=1e-10, msg=name)


@pytest.mark.parametrize("cell", [VGG, RESNET], ids=["VGG", "ResNet"])
def test_two_processes_end_where_one_does(cell):
    alone, expected = trained_alone(cell, PROTOCOL)
    module, _, epochs = begun(cell, PROTOCOL)
    found = list(epochs)
    print(apart(module, alone), [(a.train_loss, b.train_loss) for a, b in zip(found, expected)])
    assert apart(module, alone) < 1e-3
    for one, other in zip(found, expected, strict=True):
        assert (one.epoch, one.learning_rate) == (other.epoch, other.learning_rate)
        assert one.train_accuracy == pytest.approx(other.train_accuracy, abs=1)
        assert one.train_loss == pytest.approx(other.train_loss, rel=1e-4)
