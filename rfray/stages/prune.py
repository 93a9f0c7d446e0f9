"""prune: remove the smallest weights of a trained network at once, and test it as it is."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from rfray.cell import Cell
from rfray.parameters import NOTHING_TWICE, Parameters
from rfray.stages.stage import Fan, Stage, StageContext

Rate = Annotated[float, Field(gt=0, lt=1)]


class PruneParameters(Parameters):
    """One-shot global magnitude (L1) pruning, without retraining."""

    rates: Annotated[list[Rate], Field(min_length=1), NOTHING_TWICE] = Field(
        default=[0.5, 0.6, 0.7, 0.8, 0.9],
        description="Shares of weights to remove, each from the trained network.",
    )
    first_convolution: bool = Field(default=False, description="Prune the first convolution too.")
    classifier: bool = Field(default=False, description="Prune the linear layer too.")


def work(parameters: PruneParameters, cell: Cell) -> float:
    """One pass over the test images."""
    del parameters
    return float(cell.facts.test_images * cell.geometry.multiplications)


def run(context: StageContext[PruneParameters]) -> None:
    """Prune at the variant's rate, test, leave `model.safetensors`."""
    from rfray.data.device import resident
    from rfray.training.evaluate import evaluate
    from rfray.training.pruning import (
        apply_masks,
        magnitude_masks,
        prunable_layers,
        pruned_metrics,
    )
    from rfray.training.weights import load_module, save_module

    cell, parameters, trained = context.cell, context.parameters, context.input("train")
    dataset = resident(cell.dataset, context.device, cell.validation)
    module = load_module(cell, trained.artifact("model.safetensors"), context.device)
    layers = prunable_layers(
        cell.network,
        first_convolution=parameters.first_convolution,
        classifier=parameters.classifier,
    )
    apply_masks(module, magnitude_masks(module, layers, float(context.variant["rate"])))
    accuracy = evaluate(module, dataset.test, dataset.facts).accuracy
    context.report(0, pruned_metrics(module, cell, accuracy, trained.metrics["test_accuracy"]))
    save_module(module, context.workspace / "model.safetensors")


STAGE = Stage(
    name="prune",
    version=1,
    parameters=PruneParameters,
    scope="cell",
    reads=("train",),
    run=run,
    work=work,
    fan=Fan(parameter="rates", variant="rate"),
    summary="pruned by global magnitude, not retrained",
    headline="test_accuracy",
)
