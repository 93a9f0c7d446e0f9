"""Several processes that train one network together: the weights of one process, to rounding."""

from __future__ import annotations

import multiprocessing
import os
import time
from dataclasses import replace
from types import SimpleNamespace

import psutil
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing
from torch import nn

from rfray.cell import Cell
from rfray.data.device import resident
from rfray.device.exhaustion import exhausted
from rfray.errors import LostProcessError
from rfray.models.module import build
from rfray.models.operations import Add, Linear
from rfray.training import together
from rfray.training.checkpoint import EpochRecord, load_checkpoint, save_checkpoint
from rfray.training.loop import LossNotFiniteError, train_epochs
from rfray.training.optimization import optimizer_for
from rfray.training.protocol import TrainingProtocol
from rfray.training.synchronised import SYNCHRONISED
from rfray.training.team import Team
from rfray.training.together import MemberError, cell_epochs, epochs_on
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


# What a member computes


def uneven(cell, images):
    """Batches of 7 and a smaller last one, in three parts."""
    own = {"epochs": 1, "batch_size": 7, "images_per_epoch": images, "learning_rate": 1e-3}
    return cell, PROTOCOL.model_copy(update=own | {"label_smoothing": 0.1})


@pytest.mark.parametrize(
    ("cell", "protocol"),
    [uneven(VGG, 23), uneven(RESNET, 21)],
    ids=["VGG, one member without an image of the last batch", "ResNet"],
)
def test_in_double_precision_three_processes_find_the_weights_of_one(cell, protocol, tmp_path):
    in_double(0, 1, cell, protocol, tmp_path)
    torch.multiprocessing.start_processes(
        in_double, (3, cell, protocol, tmp_path), nprocs=3, start_method="fork"
    )
    alone, loss = torch.load(tmp_path / "1-0.pt")
    for rank in range(3):
        state, own_loss = torch.load(tmp_path / f"3-{rank}.pt")
        assert own_loss == pytest.approx(loss, rel=1e-6)
        for name, tensor in alone.items():
            torch.testing.assert_close(state[name], tensor, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("images", [1, 2, 3, 7, 8, 128])
@pytest.mark.parametrize("size", [1, 2, 3, 8])
def test_the_parts_of_a_batch_are_all_of_it_in_its_order_and_equally_large(images, size):
    parts = [list(range(images))[Team(rank, size).part(images)] for rank in range(size)]
    assert [image for part in parts for image in part] == list(range(images))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_layers_that_the_output_does_not_depend_on_are_known():
    """Their parameters get no gradient, which PyTorch has to know of."""
    network = VGG.network
    assert network.unread == ()
    aside = Linear(in_features=32, out_features=10)
    with_one = network.then("aside", aside, network.layers[-2].name)
    with_one = with_one.then("output", Add(), network.output, network.output)
    assert [layer.name for layer in with_one.unread] == ["aside"]


# Processes


def near(module, other):
    pairs = zip(module.state_dict().values(), other.state_dict().values(), strict=True)
    return all(torch.allclose(one, two, rtol=1e-4, atol=1e-5) for one, two in pairs)


def begin_and_stay(folder):
    """Train the first epoch in two processes, keep it, and wait for an end."""
    module, optimizer, epochs = begun(VGG, PROTOCOL)
    result = next(epochs)
    save_checkpoint(folder / "train.safetensors", module, optimizer, [EpochRecord(1, {})])
    (folder / "loss").write_text(str(result.train_loss))
    time.sleep(600)


def gone_on(path, train):
    """The network of a checkpoint after its second epoch, and that epoch."""
    module = initial_module(VGG, "cpu")
    optimizer = optimizer_for(module, PROTOCOL)
    assert len(load_checkpoint(path, module, optimizer)) == 1
    (result,) = train(module, optimizer)
    return module, result


def test_what_two_processes_began_one_goes_on_with_when_all_three_are_gone(tmp_path):
    """Whoever started them is killed and can end nobody: they end by themselves."""
    parent = multiprocessing.get_context("fork").Process(target=begin_and_stay, args=(tmp_path,))
    parent.start()
    wait_for(tmp_path / "loss")
    members = members_of(parent.pid)
    assert len(members) == 2
    parent.kill()
    parent.join()
    assert psutil.wait_procs(members, timeout=10)[1] == []

    alone, expected = trained_alone(VGG, PROTOCOL)
    path = tmp_path / "train.safetensors"
    data = resident("digits", "cpu")
    module, second = gone_on(
        path,
        lambda module, optimizer: train_epochs(
            module, optimizer, data, PROTOCOL, VGG.seed, first_epoch=2
        ),
    )
    assert near(module, alone)
    first_loss = float((tmp_path / "loss").read_text())
    assert first_loss == pytest.approx(expected[0].train_loss, rel=1e-4)
    assert second.train_loss == pytest.approx(expected[1].train_loss, rel=1e-4)


def test_what_one_process_began_two_go_on_with(tmp_path):
    alone, expected = trained_alone(VGG, PROTOCOL)
    path, data = tmp_path / "train.safetensors", resident("digits", "cpu")
    begun_by_one = initial_module(VGG, "cpu")
    optimizer = optimizer_for(begun_by_one, PROTOCOL)
    next(train_epochs(begun_by_one, optimizer, data, PROTOCOL, VGG.seed))
    save_checkpoint(path, begun_by_one, optimizer, [EpochRecord(1, {})])
    module, second = gone_on(
        path, lambda module, optimizer: epochs_on(TWO, VGG, module, optimizer, PROTOCOL, 2)
    )
    assert near(module, alone)
    assert (second.epoch, second.learning_rate) == (2, expected[1].learning_rate)
    assert second.train_loss == pytest.approx(expected[1].train_loss, rel=1e-4)
    assert members_of(os.getpid()) == []


def members_of(process):
    """Those that train together, of this process."""
    children = psutil.Process(process).children()
    return [one for one in children if any("rfray.training.member" in w for w in one.cmdline())]


def wait_for(path, seconds=120):
    until = time.monotonic() + seconds
    while not path.exists():
        assert time.monotonic() < until
        time.sleep(0.05)


# Processes that only say something, for what becomes of it

SAYS = """
import os, signal, sys, time
from multiprocessing.connection import Connection
from rfray.training.member_messages import Failure
line = Connection(int(sys.argv[1]))
rank = line.recv().rank
{what}
time.sleep(600)
"""


@pytest.mark.parametrize(
    ("what", "error", "said"),
    [
        (
            "if rank == 1: os.kill(os.getpid(), signal.SIGKILL)",
            LostProcessError, "one of the 2 processes that trained together was lost: SIGKILL",
        ),
        (
            "if rank == 1: sys.exit(3)\nline.send(Failure(0.0, 'the other is away', '', False))",
            LostProcessError,
            "one of the 2 processes that trained together was lost: it ended with code 3",
        ),
        (
            "line.send(Failure(2.0 - rank, f'RuntimeError: of {rank}', '', False))",
            MemberError, "RuntimeError: of 1 (process 2 of 2)",
        ),
        (
            "if rank == 0: line.send(Failure(1.0, 'the loss is nan at epoch 2', '', True))",
            LossNotFiniteError, "the loss is nan at epoch 2",
        ),
    ],
    ids=["killed", "ended, and the other fails by it", "the first that failed is the cause",
         "the loss is no number"],
)  # fmt: skip
def test_one_that_is_lost_or_fails_ends_all_whatever_they_wait_for(monkeypatch, what, error, said):
    monkeypatch.setattr(together, "_COMMAND", SAYS.format(what=what))
    _, _, epochs = begun(VGG, PROTOCOL)
    with pytest.raises(error) as raised:
        next(epochs)
    assert str(raised.value) == said
    assert members_of(os.getpid()) == []


def test_a_card_whose_memory_is_used_up_is_known_though_it_is_another_process_s(monkeypatch):
    said = "OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 MiB."
    what = f"line.send(Failure(1.0, '{said}', 'where it was', False))"
    monkeypatch.setattr(together, "_COMMAND", SAYS.format(what=what))
    _, _, epochs = begun(VGG, PROTOCOL)
    with pytest.raises(MemberError) as raised:
        next(epochs)
    assert exhausted(raised.value)
    assert raised.value.__notes__ == ["where it was"]


# What is asked for


def test_more_gpus_than_pytorch_finds_are_told():
    module, data = initial_module(VGG, "cpu"), resident("digits", "cpu")
    on_card = SimpleNamespace(labels=SimpleNamespace(device=torch.device("cuda")))
    there = torch.cuda.device_count()
    with pytest.raises(MemberError, match=rf"given 64 GPUs, and PyTorch finds {there} of them"):
        cell_epochs(
            VGG, module, optimizer_for(module, PROTOCOL), replace(data, train=on_card), PROTOCOL,
            processes=64, first_epoch=1,
        )  # fmt: skip
