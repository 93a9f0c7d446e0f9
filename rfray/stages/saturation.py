"""saturation: for each layer, the share of directions with nearly all variance of its features."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from rfray.cell import Cell
from rfray.parameters import NOTHING_TWICE, Parameters
from rfray.stages.drawing import save_by_layer
from rfray.stages.stage import Fan, Stage, StageContext

if TYPE_CHECKING:
    from rfray.numerics.moments import Covariance

_NAMED = 5
"""Number of layers that a remark names."""


class SaturationParameters(Parameters):
    """The saturation of each layer's features (Richter et al. 2021), on training images."""

    at: Annotated[list[Literal["init", "trained"]], Field(min_length=1), NOTHING_TWICE] = Field(
        default=["init", "trained"], description="Which weights: before or after training."
    )
    variance: Annotated[float, Field(gt=0, lt=1)] = Field(
        default=0.99,
        description="The smallest number of directions with this share of the variance is counted.",
    )
    images: Annotated[int, Field(ge=2)] = Field(
        default=4000,
        description="Number of training images, not augmented, a random subset that is the same in "
        "every run; all if there are fewer.",
    )
    places: Literal["each", "mean"] = Field(
        default="each",
        description="each: every place of a map is a sample, as in delve's `channelwise`. mean: an "
        "image is one sample, its map averaged over places.",
    )


@dataclass(frozen=True)
class Saturation:
    """The result for one layer.

    Attributes:
        features: Number of channels of its map, or of values of its vector.
        points: Number of samples of the covariance.
        directions: The smallest number that explains the wanted share of the variance; 0 if the
            features are constant.
    """

    features: int
    points: int
    directions: int

    @property
    def share(self) -> float:
        """Directions per feature, 0 to 1."""
        return self.directions / self.features


def work(parameters: SaturationParameters, cell: Cell) -> float:
    """A forward pass, the products of the covariances, and their eigenvalues."""
    layers = [cell.geometry.layer(layer.name) for layer in cell.network.weight_layers]
    images = min(parameters.images, cell.facts.train_images)
    each = parameters.places == "each"
    products = sum(
        (layer.shape.height * layer.shape.width if each else 1) * layer.shape.channels**2
        for layer in layers
    )
    eigenvalues = sum(4 * layer.shape.channels**3 for layer in layers)
    return float(images * (cell.geometry.multiplications + products) + eigenvalues)


def run(context: StageContext[SaturationParameters]) -> None:
    """Report `saturation` by layer and its mean; write `saturation.csv` and `saturation.png`."""
    from rfray.data.device import resident
    from rfray.data.subset import chosen_images
    from rfray.numerics.moments import Covariance
    from rfray.training.layer_features import each_place, place_mean, show_features
    from rfray.training.weights import load_network_at

    cell, parameters, started = context.cell, context.parameters, time.perf_counter()
    trained, at = context.input("train"), str(context.variant["at"])
    module = load_network_at(cell, trained.folder, at, context.device)
    dataset = resident(cell.dataset, context.device, cell.validation)
    images = chosen_images(dataset.train, parameters.images).images
    points = {"each": each_place, "mean": place_mean}[parameters.places]
    covariances = {layer.name: Covariance() for layer in cell.network.weight_layers}
    show_features(
        module,
        images,
        dataset.facts,
        list(covariances),
        lambda name, features: covariances[name].add(points(features)),
    )
    found = {name: _found(name, one, parameters.variance) for name, one in covariances.items()}
    for place, one in enumerate(found.values()):
        context.report(place, {"saturation": one.share})
    mean = sum(one.share for one in found.values()) / len(found)
    seconds = time.perf_counter() - started
    context.report(0, {"saturation_mean": mean, "wall_seconds": seconds})
    for sentence in doubts(found):
        context.remark(sentence)
    _write(context, found)
    save_by_layer(
        context.workspace / "saturation.png",
        context.title(f"seed {cell.seed}", at),
        f"saturation (directions of {parameters.variance:.0%} / features)",
        list(found),
        [one.share for one in found.values()],
        {},
    )


def _found(layer: str, covariance: Covariance, share: float) -> Saturation:
    from rfray.numerics.errors import naming
    from rfray.numerics.moments import directions_explaining, variances

    with naming(layer):
        values = variances(covariance.matrix)
    directions = 0 if covariance.constant else directions_explaining(values, share)
    return Saturation(len(values), covariance.count, directions)


def doubts(found: Mapping[str, Saturation]) -> list[str]:
    """Reasons why these numbers may not mean what they seem to, in sentences."""
    sentences = []
    constant = [name for name, one in found.items() if one.directions == 0]
    if constant:
        sentences.append(
            f"Features are constant over images, which counts as 0: {_listed(constant)}."
        )
    few = [name for name, one in found.items() if one.points <= one.features]
    if few:
        sentences.append(
            "There are no more samples than features, so saturation cannot reach 1: "
            f"{_listed(few)}."
        )
    return sentences


def _listed(names: Sequence[str]) -> str:
    more = len(names) - _NAMED
    shown = ", ".join(names[:_NAMED])
    return f"{shown} and {more} more" if more > 0 else shown


def _write(context: StageContext[SaturationParameters], found: Mapping[str, Saturation]) -> None:
    import pandas as pd

    frame = pd.DataFrame(
        {"layer": name, **asdict(one), "saturation": one.share} for name, one in found.items()
    )
    frame.to_csv(context.workspace / "saturation.csv", index_label="place")


STAGE = Stage(
    name="saturation",
    version=1,
    parameters=SaturationParameters,
    scope="cell",
    reads=("train",),
    run=run,
    work=work,
    summary="the share of directions in which its layers' features vary",
    headline="saturation_mean",
    fan=Fan(parameter="at", variant="at"),
)
