"""train: one network from its initialisation to its last epoch."""

from __future__ import annotations

from rfray.cell import Cell
from rfray.stages.stage import Stage, StageContext
from rfray.training.protocol import TrainingProtocol

BACKWARD_TO_FORWARD = 2
"""A backward pass costs about two forward passes."""


def training_work(protocol: TrainingProtocol, cell: Cell) -> float:
    """Estimated multiply-accumulate operations of a protocol, evaluations included."""
    images = protocol.images_seen(cell.facts.train_images) * (1 + BACKWARD_TO_FORWARD)
    images += protocol.epochs * cell.facts.test_images
    return float(images * cell.geometry.multiplications)


def run(context: StageContext[TrainingProtocol]) -> None:
    """Train, report every epoch, leave `init.safetensors` and `model.safetensors`."""
    from rfray.data.device import resident
    from rfray.training.checkpoint import EpochRecord, load_checkpoint, save_checkpoint
    from rfray.training.evaluate import evaluate
    from rfray.training.loop import optimizer_for, train_epochs
    from rfray.training.weights import initial_module, save_module

    cell, protocol = context.cell, context.parameters
    dataset = resident(cell.dataset, context.device)
    module = initial_module(cell, context.device)
    save_module(module, context.workspace / "init.safetensors")
    optimizer = optimizer_for(module, protocol)
    checkpoint = context.checkpoint / "train.safetensors"
    history = load_checkpoint(checkpoint, module, optimizer)
    for record in history:
        context.report(record.epoch, record.metrics)
    for trained in train_epochs(
        module, optimizer, dataset, protocol, cell.seed, first_epoch=len(history) + 1
    ):
        tested = evaluate(module, dataset.test, dataset.facts)
        metrics = {
            "train_loss": trained.train_loss,
            "train_accuracy": trained.train_accuracy,
            "test_loss": tested.loss,
            "test_accuracy": tested.accuracy,
            "learning_rate": trained.learning_rate,
            "epoch_seconds": trained.epoch_seconds,
        }
        history.append(EpochRecord(trained.epoch, metrics))
        save_checkpoint(checkpoint, module, optimizer, history)
        context.report(trained.epoch, metrics)
    save_module(module, context.workspace / "model.safetensors")


STAGE = Stage(
    name="train",
    version=1,
    parameters=TrainingProtocol,
    scope="cell",
    reads=(),
    run=run,
    work=training_work,
    summary="trained from its initialisation",
    headline="test_accuracy",
)
