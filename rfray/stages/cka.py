"""cka: how alike the layers of networks are that differ in their seed alone."""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from rfray.cell import Cell
from rfray.parameters import Parameters
from rfray.stages.stage import Input, Stage, StageContext

if TYPE_CHECKING:
    from torch import Tensor


class CkaParameters(Parameters):
    """Linear centred kernel alignment between every pair of layers of every pair of seeds."""

    images: Annotated[int, Field(ge=2)] = Field(
        default=1000, description="The first so many test images, as one batch."
    )


def work(parameters: CkaParameters, cell: Cell) -> float:
    """A forward pass; the Gram matrices cost about as much again."""
    return float(2 * parameters.images * cell.geometry.multiplications)


def check(parameters: CkaParameters, cell: Cell) -> str | None:
    """Whether the test split holds enough images."""
    if parameters.images > cell.facts.test_images:
        return f"cka.images is {parameters.images}, but {cell.dataset} has " + (
            f"{cell.facts.test_images} test images"
        )
    return None


def run(context: StageContext[CkaParameters]) -> None:
    """Compare all pairs of seeds, report the mean of the diagonals, leave `cka.npz`."""
    import numpy as np

    from rfray.numerics.kernel_alignment import alignment, undefined_layers

    layers = [layer.name for layer in context.cell.network.weight_layers]
    grams = {source.cell.seed: _grams(context, source) for source in context.inputs}
    pairs = list(combinations(sorted(grams), 2))
    matrices = np.stack([alignment(grams[a], grams[b]).cpu().numpy() for a, b in pairs])
    undefined = sorted({index for rows in grams.values() for index in undefined_layers(rows)})
    diagonals = matrices.diagonal(axis1=1, axis2=2)
    context.report(
        0,
        {
            "cka_diagonal_mean": float(np.nanmean(diagonals)),
            "undefined_layers": len(undefined),
        },
    )
    np.savez_compressed(
        context.workspace / "cka.npz",
        layers=np.array(layers),
        pairs=np.array(pairs),
        matrices=matrices,
        undefined=np.array([layers[index] for index in undefined], dtype=str),
    )


def _grams(context: StageContext[CkaParameters], source: Input) -> Tensor:
    """Normalised Gram rows (layers, images²) of one trained network, from one forward pass."""
    import torch
    from torch import nn

    from rfray.data.device import normalised, resident
    from rfray.numerics.kernel_alignment import centred_gram, normalised_grams
    from rfray.training.weights import load_module

    cell = source.cell
    dataset = resident(cell.dataset, context.device)
    module = load_module(cell, source.artifact("model.safetensors"), context.device).eval()
    grams: dict[str, Tensor] = {}

    def remember(name: str) -> None:
        def hook(_module: nn.Module, _inputs: object, output: Tensor) -> None:
            grams[name] = centred_gram(output)

        module.get_submodule(name).register_forward_hook(hook)

    names = [layer.name for layer in cell.network.weight_layers]
    for name in names:
        remember(name)
    with torch.inference_mode():
        module(normalised(dataset.test.images[: context.parameters.images], dataset.facts))
    return normalised_grams([grams[name] for name in names])


STAGE = Stage(
    name="cka",
    version=1,
    parameters=CkaParameters,
    scope="seeds",
    reads=("train",),
    run=run,
    work=work,
    summary="kernel alignment between the layers of its seeds",
    headline="cka_diagonal_mean",
    check=check,
)
