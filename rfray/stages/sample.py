"""sample: a training with settings that a search tries, measured on the validation images."""

import json
from dataclasses import replace
from typing import Literal

from pydantic import Field

from rfray.files.atomic import write_atomically
from rfray.search.space import Choice, Proposal, Space
from rfray.stages.stage import Input, Stage, StageContext
from rfray.stages.train import CHECKPOINT, TrainParameters, best_epoch, training_work
from rfray.training.protocol import together

SAMPLE_FILE = "sample.json"

_PROPOSED_FILE = "proposed.json"

STOPPED = "stopped_epoch"
"""The epoch after which the scheduler stopped a sample; logged only if it did."""

DIVERGED = "diverged_epoch"
"""The epoch in which the loss of a sample was no longer finite; logged only if that happened."""


class SampleParameters(TrainParameters):
    """The training protocol with the settings of one sample, and how samples are compared."""

    metric: str = Field(default="validation_accuracy", description="Of the search.")
    scheduler: Literal["none", "asha"] = Field(default="none", description="Of the search.")
    proposal: Proposal | None = Field(
        default=None, description="For a sample whose settings depend on earlier samples."
    )


def run(context: StageContext[SampleParameters]) -> None:
    """Train, report every epoch, write `sample.json`: the settings, and no weights.

    A loss that is not finite ends the sample, and so may the search's scheduler. Both are results,
    and the run says so.
    """
    from rfray.training.determinism import arithmetic_of

    proposal = context.parameters.proposal
    known = context if proposal is None else _proposed(context, proposal)
    with arithmetic_of(known.parameters):
        _train(known)
    text = known.parameters.model_dump_json(indent=1)
    context.workspace.joinpath(SAMPLE_FILE).write_text(text, encoding="utf-8")


def settings_tried(source: Input, space: Space) -> Choice:
    """The settings that a finished sample tried: a value for each setting of the space."""
    parameters = json.loads(source.artifact(SAMPLE_FILE).read_text(encoding="utf-8"))
    return {name: parameters[name.partition(".")[2]] for name in space}


def _proposed(
    context: StageContext[SampleParameters], proposal: Proposal
) -> StageContext[SampleParameters]:
    """The context with the settings that are proposed from the earlier samples.

    They are stored next to the checkpoint, so that a restart uses the same ones, even if another
    version of the library would propose others.
    """
    kept = context.checkpoint / _PROPOSED_FILE
    if not kept.exists():
        metric = context.parameters.metric
        tried = [
            (
                settings_tried(source, proposal.space),
                None if DIVERGED in source.metrics else source.metrics[metric],
            )
            for source in context.inputs
        ]
        write_atomically(kept, json.dumps(dict(context.propose(proposal, tried, metric))))
    choice = json.loads(kept.read_text(encoding="utf-8"))
    own = {name.partition(".")[2]: value for name, value in choice.items()}
    context.settle({**choice, **own})
    parameters = SampleParameters.model_validate({**context.parameters.model_dump(), **own})
    return replace(context, parameters=parameters)


def _train(context: StageContext[SampleParameters]) -> None:
    from rfray.data.device import resident
    from rfray.training.checkpoint import EpochRecord, is_due, load_checkpoint, save_checkpoint
    from rfray.training.evaluate import validated
    from rfray.training.loop import LossNotFiniteError
    from rfray.training.optimization import optimizer_for
    from rfray.training.together import cell_epochs
    from rfray.training.weights import initial_module

    cell, protocol = context.cell, context.parameters
    dataset = resident(cell.dataset, context.device, cell.validation)
    module = initial_module(cell, context.device)
    optimizer = optimizer_for(module, protocol)
    checkpoint = context.checkpoint / CHECKPOINT
    history = load_checkpoint(checkpoint, module, optimizer)
    for record in history:
        context.report(record.epoch, record.metrics)
    stopped = bool(history) and context.ends_here()
    epochs = cell_epochs(
        cell,
        module,
        optimizer,
        dataset,
        protocol,
        processes=context.processes,
        first_epoch=len(history) + 1,
    )
    try:
        while not stopped and (trained := next(epochs, None)) is not None:
            metrics = {
                "train_loss": trained.train_loss,
                "train_accuracy": trained.train_accuracy,
                **validated(module, dataset),
                "epoch_seconds": trained.epoch_seconds,
            }
            history.append(EpochRecord(trained.epoch, metrics))
            if is_due(trained.epoch, context.checkpoint_every, protocol.epochs):
                save_checkpoint(checkpoint, module, optimizer, history)
            context.report(trained.epoch, metrics)
            stopped = trained.epoch < protocol.epochs and context.ends_here()
    except LossNotFiniteError as error:
        context.report(len(history) + 1, {DIVERGED: len(history) + 1})
        context.remark(f"The training diverged: {error}.")
        return
    if stopped:
        context.report(len(history), {STOPPED: len(history)})
        context.remark(
            f"Stopped after epoch {len(history)} of {protocol.epochs}: other samples were better."
        )
    if protocol.checkpoint == "best":
        kept = history[best_epoch(history) - 1]
        names = ("validation_loss", "validation_accuracy")
        measured = {name: kept.metrics[name] for name in names}
        context.report(len(history) + 1, {**measured, "kept_epoch": kept.epoch})


STAGE = Stage(
    name="sample",
    version=1,
    parameters=SampleParameters,
    scope="sample",
    reads=(),
    run=run,
    work=training_work,
    summary="trained as one sample of a search",
    headline="validation_accuracy",
    opaque=True,
    together=together,
)
