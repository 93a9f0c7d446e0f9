"""sample: a training whose settings a search tries, measured on the images that are held out."""

from __future__ import annotations

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
"""The epoch behind which the scheduler stopped a sample; logged for those alone."""

DIVERGED = "diverged_epoch"
"""The epoch in which the loss of a sample became no number; logged for those alone."""


class SampleParameters(TrainParameters):
    """The training protocol with what a search tries, and how samples are compared."""

    metric: str = Field(default="validation_accuracy", description="Of the search.")
    scheduler: Literal["none", "asha"] = Field(default="none", description="Of the search.")
    proposal: Proposal | None = Field(
        default=None, description="Of a sample whose settings follow from those before it."
    )


def run(context: StageContext[SampleParameters]) -> None:
    """Train, report every epoch, leave `sample.json`: the settings, and no weights.

    A loss that is no number ends the sample, as does the search's scheduler: both are results, and
    the run says so.
    """
    from rfray.training.determinism import arithmetic_of

    proposal = context.parameters.proposal
    known = context if proposal is None else _proposed(context, proposal)
    with arithmetic_of(known.parameters):
        _train(known)
    text = known.parameters.model_dump_json(indent=1)
    context.workspace.joinpath(SAMPLE_FILE).write_text(text, encoding="utf-8")


def settings_tried(source: Input, space: Space) -> Choice:
    """What a finished sample tried: a value for each setting of the space."""
    parameters = json.loads(source.artifact(SAMPLE_FILE).read_text(encoding="utf-8"))
    return {name: parameters[name.partition(".")[2]] for name in space}


def _proposed(
    context: StageContext[SampleParameters], proposal: Proposal
) -> StageContext[SampleParameters]:
    """The context with the settings that follow from the samples before it.

    They are kept beside the checkpoint: a restart goes on with them, whatever another release of
    the library that proposes them would say.
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
        context.remark(f"Stopped behind epoch {len(history)} of {protocol.epochs}: others led.")
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
