"""erf: how much of its theoretical receptive field a layer's central unit takes notice of."""

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
from rfray.stages.stage import Fan, Stage, StageContext
from rfray.terminal.telling import each_second
from rfray.training.protocol import Count

if TYPE_CHECKING:
    from torch import Tensor

    from rfray.numerics.effective_field import SquaredGradient

T = TypeVar("T")

_PICTURED = 6
_NOTICEABLE = 1e-9
"""Less than this share of the mass outside of the theoretical field is rounding."""

_FEW_IMAGES = 10


class ErfParameters(Parameters):
    """Effective receptive field (Luo et al. 2016): mean |gradient|² of a layer's central unit.

    Of a fixed random subset of test images, in eval mode.
    """

    at: Annotated[list[Literal["init", "trained"]], Field(min_length=1), NOTHING_TWICE] = Field(
        default=["init", "trained"], description="Which weights: before or after training."
    )
    layers: Annotated[list[str], Field(min_length=1), NOTHING_TWICE] = Field(
        default=["*"],
        description="Which convolutions: names, or patterns such as `block5_*`. The last one is "
        "measured in any case.",
    )
    most_layers: Count = Field(
        default=16,
        description="Of more than so many, as many that are spread evenly from the first to the "
        "last are measured.",
    )
    images: Count = Field(
        default=256, description="Test images, a random subset that is the same in every run."
    )
    micro_batch: Count = Field(
        default=32, description="Images of which a graph is held at a time; bounds memory."
    )


@dataclass(frozen=True)
class Measured:
    """One line of `erf.csv`; where the gradient is zero or no number, what follows from it is NaN.

    Attributes:
        step: The layer's place among the convolutional and linear layers, from 0.
        layer: Its name.
        map_size: The longer side of its map.
        receptive_field: Theoretical, pixels along the axis where it is longer.
        field_area: Pixels of the image in the theoretical field of the central unit.
        erf_radius: Root of the second moment about the centre of mass, pixels.
        erf_area_95: The smallest number of pixels that hold 95 % of the mass.
        erf_share: That area over `field_area`.
        share_outside: Share of the mass outside of the theoretical field.
        effective_images: How many images the mean rests on.
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
    """A forward pass an image, and for each layer a backward pass from there to the image."""
    upto, total = {}, 0
    for layer in cell.geometry.layers:
        total += layer.multiplications
        upto[layer.name] = total
    passes = total + sum(upto[layer.name] for layer in _chosen(parameters, cell))
    return float(parameters.images * passes)


def check(parameters: ErfParameters, cell: Cell) -> str | None:
    """Whether the test split holds enough images, and the patterns name a convolution."""
    if parameters.images > cell.facts.test_images:
        return f"erf.images is {parameters.images}, but {cell.dataset} has " + (
            f"{cell.facts.test_images} test images"
        )
    names = [layer.name for layer in _with_places(cell)]
    if not any(_matches(name, parameters.layers) for name in names):
        patterns = ", ".join(parameters.layers)
        return f"erf.layers ({patterns}) names no convolution of {cell.arch}, whose first and " + (
            f"last are {names[0]} and {names[-1]}"
        )
    return None


def run(context: StageContext[ErfParameters]) -> None:
    """Measure each layer, leave `erf.csv`, `erf.npz` and `erf.png`."""
    started = time.perf_counter()
    chosen = _chosen(context.parameters, context.cell)
    gradients = _gradients(context, [layer.name for layer in chosen])
    lines = [_measured(context.cell, layer, gradients[layer.name]) for layer in chosen]
    for line in lines:
        if line.known:
            context.report(line.step, _metrics(line))
    last = {f"{name}_last": value for name, value in _metrics(lines[-1]).items()}
    context.report(0, {**last, "wall_seconds": time.perf_counter() - started})
    for sentence in doubts(lines, context.parameters.images):
        context.remark(sentence)
    _write(context, lines, chosen, gradients)
    _draw(context, lines, chosen, gradients)


def _with_places(cell: Cell) -> list[LayerGeometry]:
    """The convolutions whose units see different places: not those of a gate, on a 1×1 map."""
    shape = cell.geometry
    layers = [shape.layer(name) for name in shape.convolution_names]
    return [layer for layer in layers if layer.window.jump] or [shape.last_convolution]


def _chosen(parameters: ErfParameters, cell: Cell) -> list[LayerGeometry]:
    """First to last, the last convolution among them."""
    *before, last = _with_places(cell)
    named = [*(layer for layer in before if _matches(layer.name, parameters.layers)), last]
    return _spread(named, parameters.most_layers)


def _matches(name: str, patterns: list[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _spread(items: Sequence[T], most: int) -> list[T]:
    """At most so many of them, evenly spread up to the last, from the first if more than one."""
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


def _field(layer: LayerGeometry, image_size: int) -> tuple[range, range]:
    """Rows and columns of the image that the layer's central unit can see."""
    from rfray.numerics.effective_field import centre

    down, across = layer.windows
    return (
        down.pixels(centre(layer.shape.height), image_size),
        across.pixels(centre(layer.shape.width), image_size),
    )


def _measured(cell: Cell, layer: LayerGeometry, gradient: SquaredGradient) -> Measured:
    from rfray.numerics.effective_field import area, has_mass, radius, share_outside

    names = [one.name for one in cell.network.weight_layers]
    squares = gradient.mean
    rows, columns = _field(layer, cell.facts.image_size)
    known = has_mass(squares)
    held = area(squares) if known else math.nan
    return Measured(
        step=names.index(layer.name),
        layer=layer.name,
        map_size=layer.map_size,
        receptive_field=layer.window.size,
        field_area=len(rows) * len(columns),
        erf_radius=radius(squares) if known else math.nan,
        erf_area_95=held,
        erf_share=held / (len(rows) * len(columns)) if known else math.nan,
        share_outside=share_outside(squares, rows, columns) if known else math.nan,
        effective_images=gradient.effective_images if known else math.nan,
    )


def _metrics(line: Measured) -> dict[str, float]:
    return {
        "erf_radius": line.erf_radius,
        "erf_area_95": line.erf_area_95,
        "erf_share": line.erf_share,
    }


def doubts(lines: list[Measured], images: int) -> list[str]:
    """What a reader of these numbers should know before trusting them, in sentences."""
    sentences = []
    unknown = [line.layer for line in lines if not line.known]
    if unknown:
        sentences.append(
            "The central unit has no gradient on any image, or one that is no number: "
            f"{', '.join(unknown)}."
        )
    leaving = [line for line in lines if line.share_outside > _NOTICEABLE]
    if leaving:
        most = max(leaving, key=lambda line: line.share_outside)
        sentences.append(
            f"In {len(leaving)} of {len(lines)} layers the gradient leaves the theoretical field, "
            "which leaves out gates and norms that read a whole map: up to "
            f"{100 * most.share_outside:.2g} % of its mass, at {most.layer}."
        )
    few = [line for line in lines if line.effective_images < min(_FEW_IMAGES, images / 2)]
    if few:
        worst = min(few, key=lambda line: line.effective_images)
        sentences.append(
            f"In {len(few)} of {len(lines)} layers the mean rests on few of the {images} images: "
            f"on about {worst.effective_images:.1f} at {worst.layer}."
        )
    return sentences


def _write(
    context: StageContext[ErfParameters],
    lines: list[Measured],
    chosen: list[LayerGeometry],
    gradients: dict[str, SquaredGradient],
) -> None:
    import numpy as np
    import pandas as pd

    frame = pd.DataFrame([asdict(line) for line in lines])
    frame.to_csv(context.workspace / "erf.csv", index=False)
    fields = [_field(layer, context.cell.facts.image_size) for layer in chosen]
    np.savez_compressed(
        context.workspace / "erf.npz",
        layers=np.array([line.layer for line in lines]),
        steps=np.array([line.step for line in lines]),
        maps=np.stack([gradients[line.layer].mean.numpy() for line in lines]),
        rows=np.array([(rows.start, rows.stop) for rows, _ in fields]),
        columns=np.array([(columns.start, columns.stop) for _, columns in fields]),
        erf_radius=np.array([line.erf_radius for line in lines]),
    )


def _draw(
    context: StageContext[ErfParameters],
    lines: list[Measured],
    chosen: list[LayerGeometry],
    gradients: dict[str, SquaredGradient],
) -> None:
    cell = context.cell
    known = [
        _effective_field(line, layer, gradients[line.layer].mean, cell.facts.image_size)
        for line, layer in zip(lines, chosen, strict=True)
        if line.known
    ]
    save_effective_fields(
        context.workspace / "erf.png",
        f"{cell.arch} on {cell.dataset}, {cell.turned_words}, seed {cell.seed}, "
        f"{context.variant['at']}",
        _spread(known, _PICTURED),
    )


def _effective_field(
    line: Measured, layer: LayerGeometry, squares: Tensor, image_size: int
) -> EffectiveField:
    from rfray.numerics.effective_field import centre_of_mass

    rows, columns = _field(layer, image_size)
    return EffectiveField(
        layer=line.layer,
        receptive_field=line.receptive_field,
        squares=squares.numpy(),
        rows=rows,
        columns=columns,
        centre=centre_of_mass(squares),
        radius=line.erf_radius,
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
