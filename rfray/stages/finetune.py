"""finetune: continue to train a pruned network, with its pruned weights held at zero."""

from typing import Literal

from pydantic import Field

from rfray.stages.stage import Stage, StageContext
from rfray.stages.train import training_work
from rfray.training.protocol import Count, Positive, TrainingProtocol
from rfray.training.weight_size import survivor_bytes


class FinetuneParameters(TrainingProtocol):
    """The training protocol with the study's defaults for fine-tuning."""

    epochs: Count = Field(default=10, description="Passes over the training images.")
    learning_rate: Positive = Field(default=1e-4, description="In the first epoch.")
    batch_norm: Literal["update", "freeze"] = Field(
        default="update",
        description="update: batch norms train as usual and update their running statistics (as "
        "the author's code does). freeze: the running statistics of the pruned network (the dense "
        "network's, or the repaired ones) do not change, and normalise the batches.",
    )


def run(context: StageContext[FinetuneParameters]) -> None:
    """Fine-tune on the training split, report every epoch, write `model-changes.npz`.

    The state is saved at intervals and after the last epoch: an interrupted run continues there.
    """
    from rfray.training.determinism import arithmetic_of

    with arithmetic_of(context.parameters):
        _finetune(context)


def _finetune(context: StageContext[FinetuneParameters]) -> None:
    from torch import nn

    from rfray.data.device import resident
    from rfray.seeding import stream_seed
    from rfray.training.checkpoint import EpochRecord, is_due, load_checkpoint, save_checkpoint
    from rfray.training.evaluate import evaluate, validated
    from rfray.training.loop import train_epochs, train_with_frozen_batch_norms
    from rfray.training.optimization import optimizer_for
    from rfray.training.pruning import hold_masks, pruned_metrics, zero_masks
    from rfray.training.weights import load_changed, save_changed

    cell, protocol = context.cell, context.parameters
    dense, pruned = context.input("train"), context.input("prune")
    dataset = resident(cell.dataset, context.device, cell.validation)
    module = load_changed(cell, pruned.folder, dense.folder, context.device)
    hold_masks(module, zero_masks(module, cell.any_network.weights))
    optimizer = optimizer_for(module, protocol)
    frozen = protocol.batch_norm == "freeze"
    checkpoint = context.checkpoint / "finetune.safetensors"
    history = load_checkpoint(checkpoint, module, optimizer)
    for record in history:
        context.report(record.epoch, record.metrics)
    for trained in train_epochs(
        module,
        optimizer,
        dataset,
        protocol,
        stream_seed(cell.seed, "finetune"),
        first_epoch=len(history) + 1,
        enter_training=train_with_frozen_batch_norms if frozen else nn.Module.train,
    ):
        accuracy = evaluate(module, dataset.test, dataset.facts).accuracy
        metrics = {
            "train_loss": trained.train_loss,
            "train_accuracy": trained.train_accuracy,
            **validated(module, dataset),
            **pruned_metrics(module, cell, accuracy, dense.metrics["test_accuracy"]),
        }
        history.append(EpochRecord(trained.epoch, metrics))
        if is_due(trained.epoch, context.checkpoint_every, protocol.epochs):
            save_checkpoint(checkpoint, module, optimizer, history)
        context.report(trained.epoch, metrics)
    save_changed(module, dense.folder, context.workspace)


STAGE = Stage(
    name="finetune",
    version=1,
    parameters=FinetuneParameters,
    scope="cell",
    reads=("prune", "train"),
    run=run,
    work=training_work,
    summary="pruned, then fine-tuned with the pruned weights held at zero",
    headline="test_accuracy",
    size=lambda variant, cell: survivor_bytes(cell, float(variant["rate"])),
    opaque=True,
)
