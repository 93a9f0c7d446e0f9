"""erf: the effective receptive field of each layer's central unit."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Annotated, Literal, TypeVar

from pydantic import Field

from rfray.cell import Cell
from rfray.models.geometry import LayerGeometry
from rfray.parameters import NOTHING_TWICE, Parameters
from rfray.stages.drawing import EffectiveField, save_effective_fields
from rfray.stages.stage import Fan, Stage, StageContext, too_few
from rfray.terminal.telling import each_second
from rfray.training.protocol import Count

if TYPE_CHECKING:
    from rfray.numerics.effective_field import SquaredGradient

T = TypeVar("T")

_PICTURED = 6
_NOTICEABLE = 1e-9
"""A smaller share of the mass outside the theoretical receptive field is rounding."""

_FEW_IMAGES = 10


class ErfParameters(Parameters):
    """Effective receptive field (Luo et al. 2016): mean |gradient|² of a layer's central unit.

    On a fixed random subset of test images, in eval mode.
    """

    at: Annotated[list[Literal["init", "trained"]], Field(min_length=1), NOTHING_TWICE] = Field(
        default=["init", "trained"], description="Which weights: before or after training."
    )
    layers: Annotated[list[str], Field(min_length=1), NOTHING_TWICE] = Field(
        default=["*"],
        description="Which convolutions: names, or patterns such as `block5_*`. The last one is "
        "always measured.",
    )
    most_layers: Count = Field(
        default=16,
        description="Largest number of layers to measure; of more layers, as many are chosen, "
        "evenly spaced from the first to the last.",
    )
    images: Count = Field(
        default=256,
        description="Number of test images, a random subset that is the same in every run.",
    )
    micro_batch: Count = Field(
        default=32, description="Images whose graph is in memory at a time; limits memory."
    )


@dataclass(frozen=True)
class Measured:
    """One line of `erf.csv`; if the gradient is zero or not finite, the last five are NaN.

    Attributes:
        step: The layer's index among the convolutional and linear layers, from 0.
        map_size: The longer side of its map.
        receptive_field: Theoretical, pixels along the axis where it is longer.
        field_area: Pixels of the image in the theoretical receptive field of the central unit.
        erf_radius: Root of the second moment about the centre of mass, pixels.
        erf_area_95: The smallest number of pixels with 95 % of the mass.
        erf_share: That area divided by `field_area`.
        share_outside: Share of the mass outside the theoretical receptive field.
        effective_images: The effective number of images of the mean.
    """

    step: int
    layer: str
    map_size: int
    receptive_field: int
    field_area: int
    erf_radius: float
    erf_area_95: float
    erf_share: float
    share_outside: float
    effective_images: float

    @property
    def known(self) -> bool:
        """Whether there was a gradient to measure."""
        return not math.isnan(self.erf_radius)


def work(parameters: ErfParameters, cell: Cell) -> float:
    """A forward pass for each image, and for each layer a backward pass from there to the image."""
    upto, total = {}, 0
    for layer in cell.geometry.layers:
        total += layer.multiplications
        upto[layer.name] = total
    passes = total + sum(upto[layer.name] for layer in _chosen(parameters, cell))
    return float(parameters.images * passes)


def check(parameters: ErfParameters, cell: Cell) -> str | None:
    """Whether there are enough test images, and the patterns match a convolution."""
    names = [layer.name for layer in _with_places(cell)]
    if not any(_matches(name, parameters.layers) for name in names):
        return (
            f"erf.layers ({', '.join(parameters.layers)}) matches no convolution of {cell.arch}, "
            f"whose first and last are {names[0]} and {names[-1]}"
        )
    return too_few("erf.images", parameters.images, cell, "test")


def run(context: StageContext[ErfParameters]) -> None:
    """Measure each layer, write `erf.csv`, `erf.npz` and `erf.png`."""
    started = time.perf_counter()
    chosen = _chosen(context.parameters, context.cell)
    gradients = _gradients(context, [layer.name for layer in chosen])
    measured = [_measured(context.cell, layer, gradients[layer.name]) for layer in chosen]
    lines, fields = zip(*measured, strict=True)
    for line in lines:
        if line.known:
            context.report(line.step, _metrics(line))
    last = {f"{name}_last": value for name, value in _metrics(lines[-1]).items()}
    context.report(0, {**last, "wall_seconds": time.perf_counter() - started})
    for sentence in doubts(lines, context.parameters.images):
        context.remark(sentence)
    _write(context, lines, fields)
    known = [field for line, field in measured if line.known]
    title = context.title(f"seed {context.cell.seed}", str(context.variant["at"]))
    save_effective_fields(context.workspace / "erf.png", title, _spread(known, _PICTURED))


def _with_places(cell: Cell) -> list[LayerGeometry]:
    """The convolutions whose units see different parts of the image, so without those of gates."""
    shape = cell.geometry
    layers = [shape.layer(name) for name in shape.convolution_names]
    return [layer for layer in layers if layer.window.jump] or [shape.last_convolution]


def _chosen(parameters: ErfParameters, cell: Cell) -> list[LayerGeometry]:
    """The layers to measure, first to last, with the last convolution."""
    *before, last = _with_places(cell)
    named = [*(layer for layer in before if _matches(layer.name, parameters.layers)), last]
    return _spread(named, parameters.most_layers)


def _matches(name: str, patterns: list[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _spread(items: Sequence[T], most: int) -> list[T]:
    """At most this many items, evenly spaced, with the last, and the first if more than one."""
    if len(items) <= most:
        return list(items)
    step = (len(items) - 1) / max(most - 1, 1)
    return [items[len(items) - 1 - round(step * back)] for back in reversed(range(most))]


def _gradients(
    context: StageContext[ErfParameters], names: list[str]
) -> dict[str, SquaredGradient]:
    import torch

    from rfray.data.device import normalised, resident
    from rfray.data.subset import chosen_images
    from rfray.numerics.precision import full_precision
    from rfray.training.effective_field import squared_gradients
    from rfray.training.weights import load_network_at

    cell, parameters = context.cell, context.parameters
    trained, at = context.input("train"), str(context.variant["at"])
    module = load_network_at(cell, trained.folder, at, context.device).eval()
    dataset = resident(cell.dataset, context.device, cell.validation)
    images = normalised(chosen_images(dataset.test, parameters.images).images, dataset.facts)
    done = each_second("gradients of central units", parameters.images, "images")
    with full_precision(torch.device(context.device)):
        return squared_gradients(module, names, images, parameters.micro_batch, done)


def _measured(
    cell: Cell, layer: LayerGeometry, gradient: SquaredGradient
) -> tuple[Measured, EffectiveField]:
    """The line of a layer in `erf.csv`, and its picture."""
    from rfray.numerics import effective_field

    names = [one.name for one in cell.network.weight_layers]
    squares, (down, across) = gradient.mean, layer.windows
    rows = down.pixels(effective_field.centre(layer.shape.height), cell.facts.image_size)
    columns = across.pixels(effective_field.centre(layer.shape.width), cell.facts.image_size)
    known = effective_field.has_mass(squares)
    held = effective_field.area(squares) if known else math.nan
    line = Measured(
        step=names.index(layer.name),
        layer=layer.name,
        map_size=layer.map_size,
        receptive_field=layer.window.size,
        field_area=len(rows) * len(columns),
        erf_radius=effective_field.radius(squares) if known else math.nan,
        erf_area_95=held,
        erf_share=held / (len(rows) * len(columns)) if known else math.nan,
        share_outside=effective_field.share_outside(squares, rows, columns) if known else math.nan,
        effective_images=gradient.effective_images if known else math.nan,
    )
    field = EffectiveField(
        layer.name,
        line.receptive_field,
        squares.numpy(),
        rows,
        columns,
        effective_field.centre_of_mass(squares) if known else (math.nan, math.nan),
        line.erf_radius,
    )
    return line, field


def _metrics(line: Measured) -> dict[str, float]:
    return {name: getattr(line, name) for name in ("erf_radius", "erf_area_95", "erf_share")}


def doubts(lines: Sequence[Measured], images: int) -> list[str]:
    """Reasons why these numbers may not mean what they seem to, in sentences."""
    sentences = []
    unknown = [line.layer for line in lines if not line.known]
    if unknown:
        sentences.append(
            "The central unit has no gradient on any image, or one that is not a number: "
            f"{', '.join(unknown)}."
        )
    leaving = [line for line in lines if line.share_outside > _NOTICEABLE]
    if leaving:
        most = max(leaving, key=lambda line: line.share_outside)
        sentences.append(
            f"In {len(leaving)} of {len(lines)} layers the gradient leaves the theoretical field, "
            "which does not include gates and norms that read a whole map: up to "
            f"{100 * most.share_outside:.2g} % of its mass, at {most.layer}."
        )
    few = [line for line in lines if line.effective_images < min(_FEW_IMAGES, images / 2)]
    if few:
        worst = min(few, key=lambda line: line.effective_images)
        sentences.append(
            f"In {len(few)} of {len(lines)} layers the mean depends on few of the {images} images: "
            f"on about {worst.effective_images:.1f} at {worst.layer}."
        )
    return sentences


def _write(
    context: StageContext[ErfParameters],
    lines: Sequence[Measured],
    fields: Sequence[EffectiveField],
) -> None:
    import numpy as np
    import pandas as pd

    frame = pd.DataFrame([asdict(line) for line in lines])
    frame.to_csv(context.workspace / "erf.csv", index=False)
    np.savez_compressed(
        context.workspace / "erf.npz",
        layers=np.array([line.layer for line in lines]),
        steps=np.array([line.step for line in lines]),
        maps=np.stack([field.squares for field in fields]),
        rows=np.array([(field.rows.start, field.rows.stop) for field in fields]),
        columns=np.array([(field.columns.start, field.columns.stop) for field in fields]),
        erf_radius=np.array([line.erf_radius for line in lines]),
    )


STAGE = Stage(
    name="erf",
    version=1,
    parameters=ErfParameters,
    scope="cell",
    reads=("train",),
    run=run,
    work=work,
    summary="its effective receptive fields",
    headline="erf_radius_last",
    fan=Fan(parameter="at", variant="at"),
    check=check,
)
