"""The training loop: it knows nothing of evaluation, saving or logging.

It yields after every epoch; whoever drives it decides what to do then.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rfray.data.augment import POLICIES, Augmentation, apply, draw
from rfray.data.dataset import Dataset, DatasetFacts
from rfray.data.device import gathered, normalised
from rfray.numerics.live_taps import without_dead_taps
from rfray.precision import on_device
from rfray.seeding import stream_seed
from rfray.training.optimization import learning_rates
from rfray.training.protocol import TrainingProtocol


class LossNotFiniteError(Exception):
    """The training loss became infinite or not a number."""


@dataclass(frozen=True)
class EpochResult:
    """What one epoch of training measured.

    Attributes:
        epoch: 1 for the first.
        train_loss: Mean of what is minimised over the epoch, as the weights changed: the
            cross-entropy, with smoothed labels where the protocol smooths them.
        train_accuracy: Percent, 0 to 100, over the epoch, as the weights changed.
        learning_rate: The epoch's.
        epoch_seconds: Wall time of the epoch, without evaluation.
    """

    epoch: int
    train_loss: float
    train_accuracy: float
    learning_rate: float
    epoch_seconds: float


def train_with_frozen_batch_norms(module: nn.Module) -> None:
    """Put `module` into training mode, but have its batch norms use their running statistics."""
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
) -> Iterator[EpochResult]:
    """Train `module` in place from `first_epoch` on, yielding after each epoch.

    Everything random is drawn from (seed, epoch) alone, so an epoch is the same whether or not the
    process was started anew before it.

    Args:
        module: On the device of `dataset`.
        optimizer: Over the module's parameters, with the state that `first_epoch` finds.
        dataset: Its training split is used.
        protocol: Epochs, batch size, learning rate and so on.
        seed: The cell's.
        first_epoch: 1, or the epoch after the last one of an interrupted run.
        enter_training: Puts the module into training mode, at the start of each epoch.

    Raises:
        LossNotFiniteError: With epoch and step; the module is spoilt by then.
    """
    module.to(memory_format=_memory_format(protocol))
    forward = torch.compile(module) if protocol.compile else without_dead_taps(module)
    rates = learning_rates(protocol)
    for epoch in range(first_epoch, protocol.epochs + 1):
        started = time.perf_counter()
        rate = rates[epoch - 1]
        for group in optimizer.param_groups:
            group["lr"] = rate
        enter_training(module)
        losses, correct, count = _epoch(
            forward, optimizer, dataset, protocol, stream_seed(seed, "epoch", epoch)
        )
        _refuse_if_not_finite(losses, epoch)
        yield EpochResult(
            epoch=epoch,
            train_loss=float(losses.sum()) / count,
            train_accuracy=100 * correct / count,
            learning_rate=rate,
            epoch_seconds=time.perf_counter() - started,
        )


def autocast_dtype(protocol: TrainingProtocol, device: str) -> torch.dtype:
    """Of the forward and backward pass on a device, "cpu" or "cuda"."""
    precision = on_device(protocol.precision, "cuda" if device == "cuda" else "cpu")
    return torch.bfloat16 if precision == "bfloat16" else torch.float32


def _augmentation(protocol: TrainingProtocol, facts: DatasetFacts) -> Augmentation:
    chosen = protocol.augmentation
    return POLICIES[facts.augmentation if chosen == "dataset" else chosen]


def _memory_format(protocol: TrainingProtocol) -> torch.memory_format:
    return torch.channels_last if protocol.channels_last else torch.contiguous_format


def _epoch(
    forward: Callable[[Tensor], Tensor],
    optimizer: torch.optim.Optimizer,
    dataset: Dataset,
    protocol: TrainingProtocol,
    seed: int,
) -> tuple[Tensor, int, int]:
    """Summed loss of each step (steps,) on the CPU, images classified rightly, images seen."""
    split = dataset.train
    device = split.labels.device.type
    dtype = autocast_dtype(protocol, device)
    # Drawn on the CPU: a permutation drawn on a GPU would differ from the CPU's.
    order = torch.randperm(len(split), generator=torch.Generator().manual_seed(seed))
    order = order[: protocol.images_per_epoch].to(split.labels.device)
    losses: list[Tensor] = []
    correct = torch.zeros((), dtype=torch.int64, device=order.device)
    policy = _augmentation(protocol, dataset.facts)
    generator = torch.Generator().manual_seed(stream_seed(seed, "augmentation"))
    crops = draw(policy, len(order), dataset.facts.image_size, generator).to(order.device)
    batches = zip(order.split(protocol.batch_size), crops.split(protocol.batch_size), strict=True)
    for batch, batch_crops in batches:
        labels = split.labels[batch]
        pixels = apply(gathered(split.images, batch), batch_crops, policy)
        images = normalised(pixels, dataset.facts).contiguous(
            memory_format=_memory_format(protocol)
        )
        with torch.autocast(device, dtype=dtype, enabled=dtype != torch.float32):
            logits = forward(images)
            loss = F.cross_entropy(logits, labels, label_smoothing=protocol.label_smoothing)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        if protocol.gradient_clip is not None:
            nn.utils.clip_grad_norm_(_parameters(optimizer), protocol.gradient_clip)
        optimizer.step()
        losses.append(loss.detach() * len(labels))
        correct += (logits.detach().argmax(1) == labels).sum()
    # One synchronisation with the device an epoch, not one a step.
    return torch.stack(losses).cpu(), int(correct), len(order)


def _parameters(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


def _refuse_if_not_finite(losses: Tensor, epoch: int) -> None:
    broken = torch.nonzero(~torch.isfinite(losses))
    if len(broken):
        step = int(broken[0]) + 1
        raise LossNotFiniteError(
            f"the loss is {float(losses[step - 1])} at epoch {epoch}, step {step}"
        )
