"""The training loop, without evaluation, saving or logging.

It yields after every epoch; its caller decides what to do then.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from rfray.data.augment import draw
from rfray.data.dataset import Dataset
from rfray.models.module import NetworkModule
from rfray.numerics.live_taps import without_dead_taps
from rfray.seeding import stream_seed
from rfray.training.optimization import learning_rates
from rfray.training.protocol import TrainingProtocol
from rfray.training.step import (
    CudaGraphs,
    GraphedStep,
    Step,
    augmentation_of,
    memory_format_of,
    plain_step,
)
from rfray.training.team import ALONE, Team


class LossNotFiniteError(Exception):
    """The training loss became infinite or not a number."""


@dataclass(frozen=True)
class EpochResult:
    """The results of one epoch of training.

    Attributes:
        epoch: 1 for the first.
        train_loss: Mean of the minimised loss over the epoch, while the weights changed: the
            cross-entropy, with smoothed labels if the protocol smooths them.
        train_accuracy: In percent, over the epoch, while the weights changed.
        learning_rate: The epoch's.
        epoch_seconds: Wall time of the epoch, without evaluation.
    """

    epoch: int
    train_loss: float
    train_accuracy: float
    learning_rate: float
    epoch_seconds: float


def train_with_frozen_batch_norms(module: nn.Module) -> None:
    """Put `module` into training mode, except that its batch norms use their running statistics."""
    module.train()
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.eval()


def train_epochs(
    module: nn.Module,
    optimizer: torch.optim.Optimizer,
    dataset: Dataset,
    protocol: TrainingProtocol,
    seed: int,
    *,
    first_epoch: int = 1,
    enter_training: Callable[[nn.Module], object] = nn.Module.train,
    team: Team = ALONE,
) -> Iterator[EpochResult]:
    """Train `module` in place from `first_epoch` on, yielding after each epoch.

    All random numbers depend on (seed, epoch) only, so an epoch is the same after a restart of the
    process.

    Args:
        module: On the device of `dataset`.
        optimizer: Over the module's parameters, with the state before `first_epoch`.
        dataset: Its training split is used.
        protocol: Epochs, batch size, learning rate and so on.
        seed: The cell's.
        first_epoch: 1, or the epoch after the last one of an interrupted run.
        enter_training: Puts the module into training mode, at the start of each epoch.
        team: The processes that train it. All members call this at the same time, each with its own
            module, optimizer and data set, and end each epoch in the same state.

    Raises:
        LossNotFiniteError: With epoch and step; the module cannot be used any more.
    """
    module.to(memory_format=memory_format_of(protocol))
    joined = team.joined(module)
    forward = without_dead_taps(torch.compile(joined) if protocol.compile else joined)
    step = plain_step(forward, optimizer, dataset, protocol, team)
    rates = learning_rates(protocol)
    for epoch in range(first_epoch, protocol.epochs + 1):
        started = time.perf_counter()
        rate = rates[epoch - 1]
        for group in optimizer.param_groups:
            group["lr"] = rate
        enter_training(module)
        # Each member of a team draws for its own images.
        drawn = ("dropout", epoch) if team.size == 1 else ("dropout", epoch, team.rank)
        with _drawing_from(stream_seed(seed, *drawn), dataset.train.labels.device):
            losses, correct, count = _epoch(
                _as_graph(step, module, optimizer, protocol),
                dataset,
                protocol,
                stream_seed(seed, "epoch", epoch),
                team,
            )
        _refuse_if_not_finite(losses, epoch)
        yield EpochResult(
            epoch=epoch,
            train_loss=float(losses.sum()) / count,
            train_accuracy=100 * correct / count,
            learning_rate=rate,
            epoch_seconds=time.perf_counter() - started,
        )


@contextmanager
def _drawing_from(seed: int, device: torch.device) -> Iterator[None]:
    """A context in which random numbers of the network itself, as for dropout, depend on `seed`.

    Afterwards the process's random state is as before.
    """
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield


def _as_graph(
    step: Step, module: nn.Module, optimizer: torch.optim.Optimizer, protocol: TrainingProtocol
) -> Step:
    """The step as a CUDA graph, if there is a GPU and the protocol wants a graph."""
    on_card = all(parameter.is_cuda for parameter in module.parameters())
    if not on_card or not _wants_graph(module, protocol):
        return step
    return GraphedStep(step, optimizer, protocol.batch_size, CudaGraphs())


def _wants_graph(module: nn.Module, protocol: TrainingProtocol) -> bool:
    """What the protocol says; if it says nothing, whether the step is known to allow a graph."""
    if protocol.cuda_graph is not None:
        return protocol.cuda_graph
    # A module that was not read may copy a number from the GPU, which is impossible in a graph.
    read = isinstance(module, NetworkModule)
    return read and protocol.optimizer == "sgd" and not protocol.compile


def _epoch(
    step: Step, dataset: Dataset, protocol: TrainingProtocol, seed: int, team: Team = ALONE
) -> tuple[Tensor, int, int]:
    """Summed loss of each step (steps,) on the CPU, images classified correctly, images seen."""
    split = dataset.train
    # Drawn on the CPU: on a GPU the permutation would be another one.
    order = torch.randperm(len(split), generator=torch.Generator().manual_seed(seed))
    order = order[: protocol.images_per_epoch].to(split.labels.device)
    policy = augmentation_of(protocol, dataset.facts)
    generator = torch.Generator().manual_seed(stream_seed(seed, "augmentation"))
    crops = draw(policy, len(order), dataset.facts.image_size, generator).to(order.device)
    batches = zip(order.split(protocol.batch_size), crops.split(protocol.batch_size), strict=True)
    losses, correct = zip(*(step(batch, cropped) for batch, cropped in batches), strict=True)
    # One synchronisation with the device per epoch, not per step. float64 represents both exactly.
    found = torch.stack([torch.stack(losses).double(), torch.stack(correct).double()])
    read = team.summed(found).cpu()
    return read[0].float(), int(read[1].sum()), len(order)


def _refuse_if_not_finite(losses: Tensor, epoch: int) -> None:
    broken = torch.nonzero(~torch.isfinite(losses))
    if len(broken):
        step = int(broken[0]) + 1
        raise LossNotFiniteError(
            f"the loss is {float(losses[step - 1])} at epoch {epoch}, step {step}"
        )
