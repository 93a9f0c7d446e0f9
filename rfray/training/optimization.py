"""The optimizer of a protocol and the learning rate of each epoch, from `torch.optim`."""

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
    """On a GPU, one kernel updates all parameters of sgd.

    Not for adamw: its count of steps would be on the GPU, and not where a checkpoint expects it.
    """
    on_card = all(parameter.is_cuda for parameter in module.parameters())
    return {"fused": True} if on_card else {}


def learning_rates(protocol: TrainingProtocol) -> tuple[float, ...]:
    """The learning rate of every epoch (epochs,), which depends on the protocol only.

    PyTorch's schedulers always start at the first epoch, so a run that continues after an
    interruption has the same rates as one without.
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
    """The protocol's schedule as PyTorch's scheduler of `optimizer`, with one step per epoch."""
    warmup = protocol.warmup_epochs
    if warmup == 0:
        return _behind_warmup(optimizer, protocol)
    # Goyal et al. 2017: a rise in equal steps, up to the learning rate in the first epoch after it.
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
            # Not CosineAnnealingLR: it computes each rate from the one before and rounds
            # differently. All earlier results were computed with the formula, and with other
            # rounding the same key would give other weights.
            return LambdaLR(optimizer, lambda epoch: (1 + math.cos(math.pi * epoch / epochs)) / 2)
