"""cka: how alike the layers of networks are that differ in their seed alone, and its controls."""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, cast

from pydantic import Field

from rfray.cell import Cell
from rfray.parameters import NOTHING_TWICE, Parameters
from rfray.stages.drawing import save_alignment
from rfray.stages.gram_rows import MapPlan, gram_rows, map_plan
from rfray.stages.stage import Fan, Input, Stage, StageContext
from rfray.terminal.telling import counted

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray
    from torch import Tensor

    from rfray.numerics.kernel_alignment import GramSum

MAP_BYTES = 790_000_000
"""What the maps of a network may take. Beside them a stage holds three quarters of a Gram matrix a
layer, twice while it is summed: 320 MB for ResNet50's 54 layers and 1,000 images."""

_DTYPES = {"init": "float64", "trained": "float32"}
"""Of maps and sums. Nothing norms the maps of an untrained network: with depth the variation
between images shrinks against the mean, in VGG to 1e-11 of it, which float32 cannot hold."""
_SHUFFLE_SEED = 0
_LEAST_UNBIASED = 4


class CkaParameters(Parameters):
    """Linear centred kernel alignment between every pair of layers of every pair of seeds."""

    images: Annotated[int, Field(ge=2)] = Field(
        default=1000, description="The first so many test images, as one batch."
    )
    at: Annotated[list[Literal["trained", "init"]], Field(min_length=1), NOTHING_TWICE] = Field(
        default=["trained"], description="Which weights: after or before training."
    )
    estimator: Literal["biased", "unbiased"] = Field(
        default="biased",
        description="Of the Hilbert-Schmidt independence criterion. biased: as the paper's figure; "
        "it is above 0 for independent features, and the more so the wider they are. unbiased: "
        "Song et al. 2012, from 4 images on.",
    )


def work(parameters: CkaParameters, cell: Cell) -> float:
    """A forward pass; the Gram matrices cost about as much again."""
    return float(2 * parameters.images * cell.geometry.multiplications)


def check(parameters: CkaParameters, cell: Cell) -> str | None:
    """Whether the test split holds enough images, and the estimator has enough of them."""
    if parameters.estimator == "unbiased" and parameters.images < _LEAST_UNBIASED:
        return f"cka.images is {parameters.images}, but cka.estimator unbiased needs " + (
            f"{_LEAST_UNBIASED} at the least"
        )
    if parameters.images > cell.facts.test_images:
        return f"cka.images is {parameters.images}, but {cell.dataset} has " + (
            f"{cell.facts.test_images} test images"
        )
    return None


@dataclass(frozen=True)
class _Found:
    """What was measured.

    Attributes:
        pairs: The two seeds of each of the P pairs.
        matrices: CKA of layer i of the first seed with layer j of the second, (P, L, L).
        shuffled: CKA of equal layers with the images of the second seed shuffled, (P, L).
        undefined: Indices of the layers that have none.
    """

    pairs: list[tuple[int, int]]
    matrices: NDArray[np.float32]
    shuffled: NDArray[np.float32]
    undefined: list[int]


def run(context: StageContext[CkaParameters]) -> None:
    """Compare all pairs of seeds, report the mean of diagonals, leave `cka.npz` and `cka.png`."""
    import numpy as np

    started = time.perf_counter()
    layers = [layer.name for layer in context.cell.network.weight_layers]
    with tempfile.TemporaryDirectory(prefix="rfray-cka-") as scratch:
        plan = _map_plan(context)
        networks = counted(
            context.inputs, len(context.inputs), "passing images through", "networks"
        )
        for source in networks:
            _leave_rows(context, source, plan, Path(scratch))
        found = _compare(context, plan, Path(scratch))
    context.report(
        0,
        {
            "cka_diagonal_mean": float(np.nanmean(found.matrices.diagonal(axis1=1, axis2=2))),
            "cka_shuffled_mean": float(np.nanmean(found.shuffled)),
            "undefined_layers": len(found.undefined),
            "forward_passes": plan.forward_passes,
            "wall_seconds": time.perf_counter() - started,
        },
    )
    if found.undefined:
        context.remark(_undefined(context.parameters, [layers[i] for i in found.undefined]))
    np.savez_compressed(
        context.workspace / "cka.npz",
        layers=np.array(layers),
        pairs=np.array(found.pairs),
        matrices=found.matrices,
        shuffled=found.shuffled,
        undefined=np.array([layers[index] for index in found.undefined], dtype=str),
    )
    cell = context.cell
    title = f"{cell.arch} on {cell.dataset}, {cell.turned_words}, {_moment(context)}"
    save_alignment(context.workspace / "cka.png", title, found.matrices, found.shuffled, layers)


def _moment(context: StageContext[CkaParameters]) -> str:
    return str(context.variant.get("at", "trained"))


def _undefined(parameters: CkaParameters, layers: list[str]) -> str:
    alike = ", or tell all images apart alike" if parameters.estimator == "unbiased" else ""
    where = f"features are constant over images{alike}"
    return f"Alignment is undefined where {where}: {', '.join(layers)}."


def _map_plan(context: StageContext[CkaParameters]) -> MapPlan:
    import torch

    cell = context.cell
    size, images = cell.facts.image_size, context.parameters.images
    # The plan counts float32: numbers that take more must be fewer.
    budget = MAP_BYTES * torch.float32.itemsize // _dtype(context).itemsize
    return map_plan(cell.network, size, images, budget)


def _dtype(context: StageContext[CkaParameters]) -> torch.dtype:
    import torch

    return cast("torch.dtype", getattr(torch, _DTYPES[_moment(context)]))


def _compare(context: StageContext[CkaParameters], plan: MapPlan, place: Path) -> _Found:
    """Compare the rows that wait in `place`, pair by pair."""
    import numpy as np

    from rfray.numerics.kernel_alignment import alignment, undefined_layers
    from rfray.numerics.shuffled_alignment import (
        derangement,
        equal_layers_alignment,
        shuffle,
        shuffle_rows,
    )

    seeds = sorted(source.cell.seed for source in context.inputs)
    others = derangement(context.parameters.images, _SHUFFLE_SEED)
    shuffled = shuffle(others, plan.blocks).to(context.device)

    def rows(seed: int) -> Tensor:
        return _rows(place, seed, context.device)

    matrices, baselines = {}, {}
    for number, seed in enumerate(seeds):
        second = rows(seed)
        for first in seeds[:number]:
            matrices[first, seed] = alignment(rows(first), second).cpu().numpy()
        shuffle_rows(second, shuffled)
        for first in seeds[:number]:
            baselines[first, seed] = equal_layers_alignment(rows(first), second).cpu().numpy()
    pairs = list(combinations(seeds, 2))
    return _Found(
        pairs,
        np.stack([matrices[pair] for pair in pairs]),
        np.stack([baselines[pair] for pair in pairs]),
        sorted({index for seed in seeds for index in undefined_layers(rows(seed))}),
    )


def _leave_rows(
    context: StageContext[CkaParameters], source: Input, plan: MapPlan, place: Path
) -> None:
    """Leave one seed's rows in `place`, where they wait for those of the others."""
    from safetensors.torch import save_file

    from rfray.data.device import normalised, resident
    from rfray.training.weights import load_network_at

    cell = source.cell
    dataset = resident(cell.dataset, context.device, cell.validation)
    dtype = _dtype(context)
    module = load_network_at(cell, source.folder, _moment(context), context.device).eval().to(dtype)
    images = normalised(dataset.test.images[: context.parameters.images], dataset.facts).to(dtype)
    rows = gram_rows(module, images, plan, _estimator(context.parameters))
    save_file({"rows": rows.cpu()}, _rows_file(place, cell.seed))


def _estimator(parameters: CkaParameters) -> type[GramSum]:
    from rfray.numerics.kernel_alignment import GramSum, UnbiasedGramSum

    return {"biased": GramSum, "unbiased": UnbiasedGramSum}[parameters.estimator]


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
    fan=Fan(parameter="at", variant="at", usual="trained"),
    check=check,
)
