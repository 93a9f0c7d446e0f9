"""prune: remove weights of a trained network in one step, and test it without retraining."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Literal, Self, cast

from pydantic import Field, model_validator

from rfray.cell import Cell
from rfray.models.opaque import OpaqueNetwork
from rfray.parameters import NOTHING_TWICE, Parameters
from rfray.stages.stage import Fan, Stage, StageContext
from rfray.training.weight_size import mask_bytes

if TYPE_CHECKING:
    from torch import Tensor, nn

    from rfray.data.dataset import Dataset
    from rfray.models.module import NetworkModule

Rate = Annotated[float, Field(gt=0, lt=1)]

REPAIR_PASSES = 4
"""Passes: measuring the dense, the pruned and the repaired network, and the repair itself. It needs
more if maps are too large to be kept between norms."""


class PruneParameters(Parameters):
    """One-shot pruning, without retraining: by default global and by magnitude (L1)."""

    rates: Annotated[list[Rate], Field(min_length=1), NOTHING_TWICE] = Field(
        default=[0.5, 0.6, 0.7, 0.8, 0.9],
        description="Shares of weights to remove, each from the trained network.",
    )
    first_convolution: bool = Field(default=False, description="Prune the first convolution too.")
    classifier: bool = Field(default=False, description="Prune the linear layer too.")
    scope: Literal["global", "layer"] = Field(
        default="global",
        description="global: one threshold for all layers together. layer: the same share of each "
        "layer.",
    )
    criterion: Literal["magnitude", "random", "lamp"] = Field(
        default="magnitude",
        description="Which weights are removed first. magnitude: the smallest. random: in a random "
        "order drawn from the cell's seed. lamp: the smallest by layer-adaptive magnitude (Lee et "
        "al. 2021), w² / Σ v² over the layer's |v| ≥ |w|.",
    )
    among: Literal["all", "live"] = Field(
        default="all",
        description="live: rates are shares of the live weights, and dead weights do not change; "
        "lamp's sums are over live weights only.",
    )
    repair: Literal["none", "batch_norm"] = Field(
        default="none",
        description="batch_norm: after pruning, the running statistics of each batch norm become "
        "the exact mean and variance of its input over training images (Jordan et al. 2023); "
        "weights do not change.",
    )
    repair_images: Annotated[int, Field(ge=2)] = Field(
        default=2000,
        description="For batch_norm: number of training images, drawn with the cell's seed, not "
        "augmented; all if there are fewer.",
    )

    @model_validator(mode="after")
    def _without_contradiction(self) -> Self:
        fields = type(self).model_fields
        if self.repair == "none" and self.repair_images != fields["repair_images"].default:
            raise ValueError(
                "repair_images belongs to repair batch_norm, and repair is none (leave it out)"
            )
        return self


def work(parameters: PruneParameters, cell: Cell) -> float:
    """One pass over the test images, and several over those of a repair."""
    images = cell.facts.test_images
    if parameters.repair == "batch_norm":
        images += REPAIR_PASSES * min(parameters.repair_images, cell.facts.train_images)
    return float(images * cell.multiplications)


def check(parameters: PruneParameters, cell: Cell) -> str | None:
    """Whether there is something to prune, and to repair."""
    network = cell.any_network
    if isinstance(network, OpaqueNetwork) and (asked := _of_a_description(parameters)):
        return f"{asked} needs the layers of {cell.arch}, which are not known: {network.reason}"
    spared = (not parameters.first_convolution) + (not parameters.classifier)
    if len(network.weights) <= spared:
        return (
            f"prune does not change the first convolution and the classifier, and {cell.arch} has "
            "nothing else to prune: prune.first_convolution would prune it"
        )
    if parameters.repair == "batch_norm" and not cell.network.batch_norms:
        return f"prune.repair is batch_norm, but {cell.arch} has no batch norm"
    return None


def _of_a_description(parameters: PruneParameters) -> str:
    """The setting that needs the layers of the network; empty if none does."""
    if parameters.among == "live":
        return "prune.among live"
    return "prune.repair batch_norm" if parameters.repair == "batch_norm" else ""


def run(context: StageContext[PruneParameters]) -> None:
    """Prune at the variant's rate, repair, test, write `model-changes.npz`.

    A repair reports the activations' variance, and writes `activation_variance.csv`.
    """
    from rfray.data.device import resident
    from rfray.training.evaluate import evaluate
    from rfray.training.pruning import apply_masks, pruned_metrics
    from rfray.training.weights import load_at, save_changed

    cell, parameters, trained = context.cell, context.parameters, context.input("train")
    dataset = resident(cell.dataset, context.device, cell.validation)
    module = load_at(cell, trained.folder, "trained", context.device)
    masks = _masks(context, module)
    if parameters.repair == "batch_norm":
        _prune_and_repair(context, cast("NetworkModule", module), masks, dataset)
    else:
        apply_masks(module, masks)
    accuracy = evaluate(module, dataset.test, dataset.facts).accuracy
    context.report(0, pruned_metrics(module, cell, accuracy, trained.metrics["test_accuracy"]))
    save_changed(module, trained.folder, context.workspace)


def _masks(context: StageContext[PruneParameters], module: nn.Module) -> dict[str, Tensor]:
    """For each tensor that is pruned, which weights stay (True)."""
    from rfray.seeding import stream_seed
    from rfray.training.pruning import all_weights, live_weights, prunable_weights, pruning_masks
    from rfray.training.pruning_criteria import CRITERIA, SCOPES

    cell, parameters = context.cell, context.parameters
    names = prunable_weights(
        cell.any_network.weights,
        first_convolution=parameters.first_convolution,
        classifier=parameters.classifier,
    )
    if parameters.among == "live":
        candidates = live_weights(module, cell.network, cell.facts.image_size, names)
    else:
        candidates = all_weights(module, names)
    return pruning_masks(
        module,
        candidates,
        float(context.variant["rate"]),
        SCOPES[parameters.scope],
        CRITERIA[parameters.criterion](stream_seed(cell.seed, "prune", "order")),
    )


def _prune_and_repair(
    context: StageContext[PruneParameters],
    module: NetworkModule,
    masks: Mapping[str, Tensor],
    dataset: Dataset,
) -> None:
    """Apply the masks and renew the batch norms; measure the activations at each step."""
    import pandas as pd

    from rfray.training.batch_norms import activation_variances, renew_statistics, variance_ratio
    from rfray.training.pruning import apply_masks

    images = _repair_images(context, dataset)
    dense = activation_variances(module, images)
    apply_masks(module, masks)
    pruned = activation_variances(module, images)
    renew_statistics(module, images)
    repaired = activation_variances(module, images)
    ratios = {
        "activation_variance_ratio_pruned": variance_ratio(pruned, dense),
        "activation_variance_ratio_repaired": variance_ratio(repaired, dense),
    }
    context.report(0, {name: ratio for name, ratio in ratios.items() if ratio is not None})
    frame = pd.DataFrame({"dense": dense, "pruned": pruned, "repaired": repaired})
    frame.to_csv(context.workspace / "activation_variance.csv", index_label="layer")


def _repair_images(context: StageContext[PruneParameters], dataset: Dataset) -> Tensor:
    """Normalised training images, the same for every rate and criterion."""
    import torch

    from rfray.data.device import gathered, normalised
    from rfray.seeding import stream_seed

    seed = stream_seed(context.cell.seed, "prune", "repair images")
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(dataset.train), generator=generator)
    chosen = order[: context.parameters.repair_images].sort().values.to(context.device)
    return normalised(gathered(dataset.train.images, chosen), dataset.facts)


STAGE = Stage(
    name="prune",
    version=1,
    parameters=PruneParameters,
    scope="cell",
    reads=("train",),
    run=run,
    work=work,
    fan=Fan(parameter="rates", variant="rate"),
    summary="pruned at once, not retrained",
    headline="test_accuracy",
    check=check,
    # All but the mask is in the trained network's file.
    size=lambda variant, cell: mask_bytes(cell, float(variant["rate"])),
    opaque=True,
)
