"""train: one network from its initialisation to its last epoch."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from rfray.cell import Cell
from rfray.stages.stage import Stage, StageContext
from rfray.training.protocol import TrainingProtocol, together
from rfray.training.weight_files import MODEL
from rfray.training.weight_size import whole_bytes

if TYPE_CHECKING:
    from torch import nn
    from torch.optim import Optimizer

    from rfray.training.checkpoint import EpochRecord

CHECKPOINT = "train.safetensors"
CHOSEN_FILE = "chosen.json"
"""The file of a search with the settings that it chose, by their dotted names."""

_TESTED = "test_accuracy"
_OF_KEPT_WEIGHTS = ("test_loss", _TESTED, "validation_loss", "validation_accuracy")

BACKWARD_TO_FORWARD = 2
"""A backward pass costs about two forward passes."""


class TrainParameters(TrainingProtocol):
    """The training protocol, and the epoch whose weights are kept."""

    checkpoint: Literal["last", "best"] = Field(
        default="last",
        description="The epoch whose weights are kept. best: the one with the highest validation "
        "accuracy. Without data.validation, as in the author's code, the one with the highest test "
        "accuracy; it is chosen on the test images, so all results are then too optimistic.",
    )


def training_work(protocol: TrainingProtocol, cell: Cell) -> float:
    """Estimated multiply-accumulate operations of a protocol, including evaluations."""
    images = protocol.images_seen(cell.facts.train_images) * (1 + BACKWARD_TO_FORWARD)
    images += protocol.epochs * (cell.facts.test_images + cell.facts.validation_images)
    return float(images * cell.multiplications)


def caution(parameters: TrainParameters, cell: Cell) -> str | None:
    """Whether the weights are chosen on the test images, on which results are reported."""
    if parameters.checkpoint == "best" and cell.validation is None:
        return (
            "keeps the epoch that is best on the test images (checkpoint: best), which makes all "
            "results too optimistic: data.validation holds out training images for this choice"
        )
    return None


def run(context: StageContext[TrainParameters]) -> None:
    """Train, report every epoch, write `model.safetensors`, and `init.json` of the initial weights.

    The state is saved at intervals and after the last epoch: an interrupted run continues there.
    """
    from rfray.training.determinism import arithmetic_of

    searched = _searched(context)
    with arithmetic_of(searched.parameters):
        _train(searched)


def _searched(context: StageContext[TrainParameters]) -> StageContext[TrainParameters]:
    """The context with the settings that a search has chosen, if the stage reads a search."""
    chosen: dict[str, Any] = {}
    for source in context.inputs:
        chosen |= json.loads(source.artifact(CHOSEN_FILE).read_text(encoding="utf-8"))
    if not chosen:
        return context
    own = {name.partition(".")[2]: value for name, value in chosen.items()}
    context.settle(own)
    protocol = TrainParameters.model_validate({**context.parameters.model_dump(), **own})
    return replace(context, parameters=protocol)


def _train(context: StageContext[TrainParameters]) -> None:
    from rfray.data.device import resident
    from rfray.training.checkpoint import EpochRecord, is_due, load_checkpoint, save_checkpoint
    from rfray.training.evaluate import evaluate, validated
    from rfray.training.optimization import optimizer_for
    from rfray.training.together import cell_epochs
    from rfray.training.weights import initial_module, save_initial, save_module

    cell, protocol = context.cell, context.parameters
    dataset = resident(cell.dataset, context.device, cell.validation)
    module = initial_module(cell, context.device)
    save_initial(module, cell, context.workspace)
    optimizer = optimizer_for(module, protocol)
    checkpoint = context.checkpoint / CHECKPOINT
    history = load_checkpoint(checkpoint, module, optimizer) or _begun(context, module, optimizer)
    for record in history:
        context.report(record.epoch, record.metrics)
    for trained in cell_epochs(
        cell,
        module,
        optimizer,
        dataset,
        protocol,
        processes=context.processes,
        first_epoch=len(history) + 1,
    ):
        tested = evaluate(module, dataset.test, dataset.facts)
        metrics = {
            "train_loss": trained.train_loss,
            "train_accuracy": trained.train_accuracy,
            "test_loss": tested.loss,
            "test_accuracy": tested.accuracy,
            **validated(module, dataset),
            "learning_rate": trained.learning_rate,
            "epoch_seconds": trained.epoch_seconds,
        }
        history.append(EpochRecord(trained.epoch, metrics))
        # The best weights first: the history must not have an epoch whose weights are not saved.
        if protocol.checkpoint == "best" and best_epoch(history) == trained.epoch:
            best = _best_checkpoint(context.checkpoint, trained.epoch)
            save_checkpoint(best, module, optimizer, history)
        if is_due(trained.epoch, context.checkpoint_every, protocol.epochs):
            save_checkpoint(checkpoint, module, optimizer, history)
            _forget_other_weights(context.checkpoint, best_epoch(history))
        context.report(trained.epoch, metrics)
    if protocol.checkpoint == "best":
        _take_best(context, module, optimizer, history)
    save_module(module, context.workspace / MODEL)


def _begun(
    context: StageContext[TrainParameters], module: nn.Module, optimizer: Optimizer
) -> list[EpochRecord]:
    """Load the state of the same training with fewer epochs; returns those epochs."""
    from rfray.training.checkpoint import load_checkpoint

    if context.earlier is None:
        return []
    history = load_checkpoint(context.earlier / CHECKPOINT, module, optimizer)
    if history:
        context.remark(
            f"Epochs 1 to {len(history)} are those of the same training with fewer epochs, which "
            "this run continues."
        )
    return history


def _best_checkpoint(folder: Path, epoch: int) -> Path:
    return folder / f"best-{epoch}.safetensors"


def _forget_other_weights(folder: Path, epoch: int) -> None:
    """Remove the weights of epochs that are not the best of the saved history."""
    for path in folder.glob("best-*.safetensors"):
        if path != _best_checkpoint(folder, epoch):
            path.unlink()


def best_epoch(history: Sequence[EpochRecord]) -> int:
    """The epoch of the highest validation accuracy, the first of several; they count from 1.

    Without a validation split, that of the highest test accuracy.
    """
    metric = "validation_accuracy" if "validation_accuracy" in history[0].metrics else _TESTED
    return max(history, key=lambda record: record.metrics[metric]).epoch


def _take_best(
    context: StageContext[TrainParameters],
    module: nn.Module,
    optimizer: Optimizer,
    history: Sequence[EpochRecord],
) -> None:
    """Load the best weights into `module`, and report the values of their epoch last.

    Raises:
        RuntimeError: The weights in the checkpoint folder are not those that were saved.
    """
    from rfray.training.checkpoint import load_checkpoint

    epoch = best_epoch(history)
    best = _best_checkpoint(context.checkpoint, epoch)
    if len(load_checkpoint(best, module, optimizer)) != epoch:
        # Otherwise each new start would fail in the same way.
        (context.checkpoint / CHECKPOINT).unlink()
        raise RuntimeError(
            f"the weights of epoch {epoch} in {context.checkpoint} are missing or damaged; "
            "the next start trains from the beginning"
        )
    measured = history[epoch - 1].metrics
    kept = {name: measured[name] for name in _OF_KEPT_WEIGHTS if name in measured}
    context.report(len(history) + 1, {**kept, "kept_epoch": epoch})
    if caution(context.parameters, context.cell):
        context.remark(f"Epoch {epoch} was kept: it is the best on the test images themselves.")


def begun(parameters: TrainParameters) -> str | None:
    """Why training cannot continue a shorter one, in a sentence; None if it can."""
    if parameters.schedule not in ("constant", "step"):
        return (
            f"with train.schedule {parameters.schedule} the learning rate of every epoch depends "
            "on the number of epochs (with constant and step it does not)"
        )
    if parameters.checkpoint != "last":
        return "train.checkpoint best needs the weights of an earlier epoch"
    return None


STAGE = Stage(
    name="train",
    version=1,
    parameters=TrainParameters,
    scope="cell",
    reads=(),
    run=run,
    work=training_work,
    summary="trained from its initialisation",
    headline="test_accuracy",
    caution=caution,
    may_read=("search",),
    # The initial weights follow from the seed.
    size=lambda _variant, cell: whole_bytes(cell),
    opaque=True,
    begun=begun,
    together=together,
)
