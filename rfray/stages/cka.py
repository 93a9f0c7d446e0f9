"""cka: how alike the layers of networks are that differ in their seed alone."""

from __future__ import annotations

import tempfile
import time
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from rfray.cell import Cell
from rfray.parameters import Parameters
from rfray.stages.drawing import save_alignment
from rfray.stages.gram_rows import gram_rows, map_plan
from rfray.stages.stage import Input, Stage, StageContext
from rfray.telling import counted

if TYPE_CHECKING:
    from torch import Tensor

MAP_BYTES = 790_000_000
"""What the maps of a network may take. Beside them a stage holds three quarters of a Gram matrix a
layer, twice while it is summed: 320 MB for ResNet50's 54 layers and 1,000 images."""


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
    """Compare all pairs of seeds, report the mean of diagonals, leave `cka.npz` and `cka.png`."""
    import numpy as np

    from rfray.numerics.kernel_alignment import alignment, undefined_layers

    started = time.perf_counter()
    layers = [layer.name for layer in context.cell.network.weight_layers]
    seeds = sorted(source.cell.seed for source in context.inputs)
    pairs = list(combinations(seeds, 2))
    with tempfile.TemporaryDirectory(prefix="rfray-cka-") as scratch:
        place = Path(scratch)
        networks = counted(context.inputs, len(seeds), "passing images through", "networks")
        passes = [_leave_rows(context, source, place) for source in networks]

        def rows(seed: int) -> Tensor:
            return _rows(place, seed, context.device)

        matrices = np.stack([alignment(rows(a), rows(b)).cpu().numpy() for a, b in pairs])
        undefined = sorted({index for seed in seeds for index in undefined_layers(rows(seed))})
    diagonals = matrices.diagonal(axis1=1, axis2=2)
    context.report(
        0,
        {
            "cka_diagonal_mean": float(np.nanmean(diagonals)),
            "undefined_layers": len(undefined),
            "forward_passes": max(passes),
            "wall_seconds": time.perf_counter() - started,
        },
    )
    if undefined:
        dead = ", ".join(layers[index] for index in undefined)
        context.remark(f"Alignment is undefined where features are constant over images: {dead}.")
    np.savez_compressed(
        context.workspace / "cka.npz",
        layers=np.array(layers),
        pairs=np.array(pairs),
        matrices=matrices,
        undefined=np.array([layers[index] for index in undefined], dtype=str),
    )
    title = f"{context.cell.arch} on {context.cell.dataset}, {context.cell.turned_words}"
    save_alignment(context.workspace / "cka.png", title, matrices, layers)


def _leave_rows(context: StageContext[CkaParameters], source: Input, place: Path) -> int:
    """Leave one seed's rows in `place`, where they wait for those of the others.

    Returns how often each image went through the network.
    """
    from safetensors.torch import save_file

    from rfray.data.device import normalised, resident
    from rfray.training.weights import load_module

    cell = source.cell
    dataset = resident(cell.dataset, context.device, cell.validation)
    module = load_module(cell, source.artifact("model.safetensors"), context.device).eval()
    images = normalised(dataset.test.images[: context.parameters.images], dataset.facts)
    plan = map_plan(cell.network, images.shape[2], len(images), MAP_BYTES)
    save_file({"rows": gram_rows(module, images, plan).cpu()}, _rows_file(place, cell.seed))
    return plan.forward_passes


def _rows(place: Path, seed: int, device: str) -> Tensor:
    from safetensors.torch import load_file

    return load_file(_rows_file(place, seed), device=device)["rows"]


def _rows_file(place: Path, seed: int) -> Path:
    return place / f"seed{seed}.safetensors"


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
