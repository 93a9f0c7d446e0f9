"""The optimizer of a protocol and the learning rate of each epoch, from `torch.optim` itself."""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.optim import SGD, AdamW, Optimizer
from torch.optim.lr_scheduler import (
    ConstantLR,
    LambdaLR,
    LinearLR,
    LRScheduler,
    MultiStepLR,
    SequentialLR,
)

from rfray.training.protocol import TrainingProtocol


def optimizer_for(module: nn.Module, protocol: TrainingProtocol) -> Optimizer:
    """The protocol's optimizer over every parameter of `module`."""
    if protocol.optimizer == "adamw":
        first, second = protocol.betas
        return AdamW(
            module.parameters(),
            lr=protocol.learning_rate,
            betas=(first, second),
            weight_decay=protocol.weight_decay,
        )
    return SGD(
        module.parameters(),
        lr=protocol.learning_rate,
        momentum=protocol.momentum,
        weight_decay=protocol.weight_decay,
        nesterov=protocol.nesterov,
        **_updates(module),
    )


def _updates(module: nn.Module) -> dict[str, bool]:
    """On a card one kernel updates all parameters of sgd; on a processor they are as ever.

    Not of adamw, whose count of steps would lie on the card and not in a checkpoint's place.
    """
    on_card = all(parameter.is_cuda for parameter in module.parameters())
    return {"fused": True} if on_card else {}


def learning_rates(protocol: TrainingProtocol) -> tuple[float, ...]:
    """The learning rate of every epoch (epochs,), from the protocol alone.

    A run that goes on after an interruption has the rates of one that never stopped, whatever
    epoch it begins with: PyTorch's schedulers are asked from the first epoch on each time.
    """
    stand_in = SGD([nn.Parameter(torch.zeros(()))], lr=protocol.learning_rate)
    scheduler = scheduler_for(stand_in, protocol)
    rates = []
    for _ in range(protocol.epochs):
        rates.append(float(stand_in.param_groups[0]["lr"]))
        stand_in.step()
        scheduler.step()
    return tuple(rates)


def scheduler_for(optimizer: Optimizer, protocol: TrainingProtocol) -> LRScheduler:
    """The protocol's learning rate as PyTorch's scheduler of `optimizer`, stepped once an epoch."""
    warmup = protocol.warmup_epochs
    if warmup == 0:
        return _behind_warmup(optimizer, protocol)
    # Goyal et al. 2017: a rise by equal steps, to the learning rate in the first epoch behind it.
    rise = LinearLR(optimizer, start_factor=1 / (warmup + 1), total_iters=warmup)
    return SequentialLR(optimizer, [rise, _behind_warmup(optimizer, protocol)], milestones=[warmup])


def _behind_warmup(optimizer: Optimizer, protocol: TrainingProtocol) -> LRScheduler:
    warmup = protocol.warmup_epochs
    epochs = protocol.epochs - warmup
    match protocol.schedule:
        case "constant":
            return ConstantLR(optimizer, factor=1.0, total_iters=0)
        case "step":
            behind = [milestone - warmup for milestone in protocol.milestones]
            return MultiStepLR(optimizer, behind, gamma=protocol.gamma)
        case "linear":
            return LinearLR(optimizer, start_factor=1.0, end_factor=0.0, total_iters=epochs)
        case "cosine":
            # CosineAnnealingLR computes each rate from the one before and so rounds otherwise than
            # its formula, by which every result so far was made: its rates would change in the
            # last digits, and with them all weights, under the same key.
            return LambdaLR(optimizer, lambda epoch: (1 + math.cos(math.pi * epoch / epochs)) / 2)
