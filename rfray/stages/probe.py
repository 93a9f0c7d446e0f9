"""probe: the accuracy of a linear classifier on each layer's features."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Annotated

from pydantic import Field

from rfray.cell import Cell
from rfray.models.geometry import LayerGeometry
from rfray.parameters import Parameters
from rfray.stages.drawing import save_by_layer
from rfray.stages.stage import Stage, StageContext
from rfray.terminal.telling import counted
from rfray.training.protocol import Count, Positive

FEATURE_BYTES = 790_000_000
"""Memory for the pooled features of all images; if they need more, images pass several times."""

_NUMBER_BYTES = 8
_STEPS = 60
"""Approximate number of L-BFGS steps of a probe: 20 to 120 were seen."""


class ProbeParameters(Parameters):
    """Linear classifiers of each weight layer's features (Alain & Bengio 2017), in eval mode.

    The features of a map are the averages of its channels over all places.
    """

    images: Annotated[int, Field(ge=2)] = Field(
        default=5000,
        description="Number of training images for the fit of the classifiers, not augmented, a "
        "random subset that is the same in every run; all if there are fewer.",
    )
    test_images: Count = Field(
        default=5000,
        description="Number of test images for their accuracy, a random subset that is the same in "
        "every run; all if there are fewer.",
    )
    l2: Positive = Field(
        default=0.01,
        description="Weight λ of the penalty λ/2 ‖W‖², which is added to the mean cross-entropy; "
        "for standardised features.",
    )
    tolerance: Positive = Field(
        default=1e-6, description="Largest norm of the gradient of a converged fit."
    )
    max_iterations: Count = Field(
        default=1000, description="Largest number of L-BFGS steps of a fit, converged or not."
    )
    no_rise: Annotated[float, Field(ge=0)] = Field(
        default=1.0,
        description="Percentage points. The tail starts at the first layer whose accuracy no later "
        "layer exceeds by more than this.",
    )


@dataclass(frozen=True)
class Probed:
    """The probe of one layer; accuracies in percent."""

    layer: str
    features: int
    accuracy: float
    train_accuracy: float
    iterations: int
    gradient_norm: float
    converged: bool


def work(parameters: ProbeParameters, cell: Cell) -> float:
    """A forward pass; for each layer a Gram matrix, its eigenvectors, and steps of L-BFGS."""
    fitted = min(parameters.images, cell.facts.train_images)
    tried = min(parameters.test_images, cell.facts.test_images)
    solving = sum(
        2 * fitted * width**2 + 10 * width**3 + 2 * _STEPS * fitted * width * cell.facts.classes
        for width in (layer.shape.channels for layer in _weight_layers(cell))
    )
    return float((fitted + tried) * cell.geometry.multiplications + solving)


def run(context: StageContext[ProbeParameters]) -> None:
    """Report `probe_accuracy` by layer and where the tail starts; write `probe.csv`, `.png`."""
    from rfray.numerics.linear_probe import tail_start

    started, cell = time.perf_counter(), context.cell
    probed: list[Probed] = []
    for one in counted(_probes(context), len(_weight_layers(cell)), "probing", "layers"):
        context.report(len(probed), {"probe_accuracy": one.accuracy})
        probed.append(one)
    start = tail_start([one.accuracy for one in probed], context.parameters.no_rise)
    exceeding = exceeds_image(_weight_layers(cell), cell.facts.image_size)
    beyond = exceeding.index(True) if True in exceeding else len(exceeding)
    seconds = time.perf_counter() - started
    context.report(
        0, {"tail_start": start, "field_exceeds_image_at": beyond, "wall_seconds": seconds}
    )
    unsolved = [one.layer for one in probed if not one.converged]
    if unsolved:
        context.remark(
            f"{len(unsolved)} of {len(probed)} probes have not converged to a gradient of "
            f"{context.parameters.tolerance:g}: {', '.join(unsolved)}."
        )
    _write(context, probed, start, exceeding)
    save_by_layer(
        context.workspace / "probe.png",
        context.title(f"seed {cell.seed}"),
        "accuracy of a linear probe (%)",
        [one.layer for one in probed],
        [one.accuracy for one in probed],
        {"no later layer adds more": start, "field exceeds the image": beyond},
    )


def exceeds_image(layers: Sequence[LayerGeometry], image_size: int) -> list[bool]:
    """For each layer, whether its units' theoretical receptive field is larger than the image.

    False for a gate, which sees the whole image at any depth.
    """
    maps = [place for place, layer in enumerate(layers) if layer.window.jump]
    last_map = maps[-1] if maps else -1
    return [
        layer.window.size > image_size and (bool(layer.window.jump) or place > last_map)
        for place, layer in enumerate(layers)
    ]


def _weight_layers(cell: Cell) -> list[LayerGeometry]:
    return [cell.geometry.layer(layer.name) for layer in cell.network.weight_layers]


def layer_groups(
    layers: Sequence[LayerGeometry], images: int, budget: int
) -> list[list[LayerGeometry]]:
    """The layers in order, in the smallest number of groups whose features fit into a budget.

    The budget is in bytes; a layer that needs more is its own group.
    """
    groups: list[list[LayerGeometry]] = []
    free = 0
    for layer in layers:
        needs = _NUMBER_BYTES * images * layer.shape.channels
        if not groups or needs > free:
            groups.append([])
            free = budget
        groups[-1].append(layer)
        free -= needs
    return groups


def _probes(context: StageContext[ProbeParameters]) -> Iterator[Probed]:
    """The layers' probes, first to last, with the features of one group in memory."""
    from rfray.data.device import resident
    from rfray.data.subset import chosen_images
    from rfray.numerics.errors import naming
    from rfray.numerics.linear_probe import fit_probe
    from rfray.training.layer_features import pooled_features
    from rfray.training.weights import load_network_at

    cell, parameters = context.cell, context.parameters
    module = load_network_at(cell, context.input("train").folder, "trained", context.device)
    dataset = resident(cell.dataset, context.device, cell.validation)
    train = chosen_images(dataset.train, parameters.images)
    test = chosen_images(dataset.test, parameters.test_images)
    together = len(train) + len(test)
    for layers in layer_groups(_weight_layers(cell), together, FEATURE_BYTES):
        names = [layer.name for layer in layers]
        fitted, tried = (
            pooled_features(module, split.images, dataset.facts, names) for split in (train, test)
        )
        for name in names:
            features = fitted.pop(name)
            with naming(name):
                probe = fit_probe(
                    features,
                    train.labels,
                    cell.facts.classes,
                    parameters.l2,
                    parameters.tolerance,
                    parameters.max_iterations,
                )
            yield Probed(
                layer=name,
                features=features.shape[1],
                accuracy=probe.accuracy(tried.pop(name), test.labels),
                train_accuracy=probe.accuracy(features, train.labels),
                iterations=probe.iterations,
                gradient_norm=probe.gradient_norm,
                converged=probe.converged,
            )


def _write(
    context: StageContext[ProbeParameters],
    probed: Sequence[Probed],
    start: int,
    exceeding: Sequence[bool],
) -> None:
    import pandas as pd

    layers = _weight_layers(context.cell)
    frame = pd.DataFrame([asdict(one) for one in probed])
    frame["receptive_field"] = [layer.window.size for layer in layers]
    frame["field_exceeds_image"] = exceeding
    frame["in_tail"] = [place >= start for place in range(len(layers))]
    frame.to_csv(context.workspace / "probe.csv", index_label="place")


STAGE = Stage(
    name="probe",
    version=1,
    parameters=ProbeParameters,
    scope="cell",
    reads=("train",),
    run=run,
    work=work,
    summary="the accuracy of linear probes of its layers",
    headline="tail_start",
)
