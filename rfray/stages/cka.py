"""cka: how similar the layers of networks are that differ in the seed only, and its controls."""

from __future__ import annotations

import tempfile
import time
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

from pydantic import Field

from rfray.cell import Cell
from rfray.parameters import NOTHING_TWICE, Parameters
from rfray.stages.drawing import save_alignment
from rfray.stages.gram_rows import blocks_within, gram_rows
from rfray.stages.stage import Fan, Input, Stage, StageContext, too_few
from rfray.terminal.telling import counted

if TYPE_CHECKING:
    import torch
    from torch import Tensor

MAP_BYTES = 1_200_000_000
"""Memory for the maps of a network. A stage also needs a Gram matrix for each layer, and twice that
while it is summed: 430 MB for ResNet50's 54 layers and 1,000 images."""

_DTYPES = {"init": "float64", "trained": "float32"}
"""The dtype of maps and sums. Without training maps are not normalised, and in deep layers the
variation between images is very small: in VGG 1e-11 of the mean, too little for float32."""
_SHUFFLE_SEED = 0
_LEAST_UNBIASED = 4


class CkaParameters(Parameters):
    """Linear centred kernel alignment between every pair of layers of every pair of seeds."""

    images: Annotated[int, Field(ge=2)] = Field(
        default=1000, description="Number of test images, from the first, as one batch."
    )
    at: Annotated[list[Literal["trained", "init"]], Field(min_length=1), NOTHING_TWICE] = Field(
        default=["trained"], description="Which weights: after or before training."
    )
    estimator: Literal["biased", "unbiased"] = Field(
        default="biased",
        description="Estimate of the Hilbert-Schmidt independence criterion. biased: as in the "
        "paper's figure; it is above 0 for independent features, and more so for wider layers. "
        "unbiased: Song et al. 2012; needs at least 4 images.",
    )


def work(parameters: CkaParameters, cell: Cell) -> float:
    """The forward passes; the Gram matrices cost about as much as one of them."""
    size, images = cell.facts.image_size, parameters.images
    passes = blocks_within(cell.network, size, images, MAP_BYTES) - 1
    return float((passes + 1) * images * cell.geometry.multiplications)


def check(parameters: CkaParameters, cell: Cell) -> str | None:
    """Whether there are enough test images, and enough for the estimator."""
    if parameters.estimator == "unbiased" and parameters.images < _LEAST_UNBIASED:
        return (
            f"cka.images is {parameters.images}, but cka.estimator unbiased needs at least "
            f"{_LEAST_UNBIASED}"
        )
    return too_few("cka.images", parameters.images, cell, "test")


def run(context: StageContext[CkaParameters]) -> None:
    """Compare all pairs of seeds, report the mean of diagonals, write `cka.npz` and `cka.png`."""
    import numpy as np

    started = time.perf_counter()
    layers = [layer.name for layer in context.cell.network.weight_layers]
    sources, blocks = context.inputs, _blocks(context)
    with tempfile.TemporaryDirectory(prefix="rfray-cka-") as folder:
        scratch = Path(folder)
        for source in counted(sources, len(sources), "passing images through", "networks"):
            _leave_rows(context, source, blocks, scratch)
        found = _compare(context, layers, scratch)
    matrices, shuffled, undefined = found["matrices"], found["shuffled"], found["undefined"]
    context.report(
        0,
        {
            "cka_diagonal_mean": float(np.nanmean(matrices.diagonal(axis1=1, axis2=2))),
            "cka_shuffled_mean": float(np.nanmean(shuffled)),
            "undefined_layers": len(undefined),
            "forward_passes": blocks - 1,
            "wall_seconds": time.perf_counter() - started,
        },
    )
    if len(undefined):
        unbiased = context.parameters.estimator == "unbiased"
        or_equal = ", or all pairs of images differ equally" if unbiased else ""
        context.remark(
            f"Alignment is undefined where features are constant over images{or_equal}: "
            f"{', '.join(undefined)}."
        )
    np.savez_compressed(context.workspace / "cka.npz", **found)
    title = context.title(_moment(context))
    save_alignment(context.workspace / "cka.png", title, matrices, shuffled, layers)


def _moment(context: StageContext[CkaParameters]) -> str:
    return str(context.variant.get("at", "trained"))


def _blocks(context: StageContext[CkaParameters]) -> int:
    import torch

    cell = context.cell
    size, images = cell.facts.image_size, context.parameters.images
    # The budget is for float32: of larger numbers there must be fewer.
    budget = MAP_BYTES * torch.float32.itemsize // _dtype(context).itemsize
    return blocks_within(cell.network, size, images, budget)


def _dtype(context: StageContext[CkaParameters]) -> torch.dtype:
    import torch

    return cast("torch.dtype", getattr(torch, _DTYPES[_moment(context)]))


def _compare(
    context: StageContext[CkaParameters], layers: list[str], scratch: Path
) -> dict[str, Any]:
    """Compare the stored rows of L layers, pair by pair; returns the arrays of `cka.npz`.

    pairs: the two seeds of each of the P pairs. matrices: CKA of layer i of the first seed with
    layer j of the second, (P, L, L) float32. shuffled: CKA of equal layers with the images of the
    second seed shuffled, (P, L) float32. undefined: the layers without a defined CKA.
    """
    import numpy as np
    from safetensors.torch import load_file

    from rfray.numerics.kernel_alignment import alignment, undefined_layers
    from rfray.numerics.shuffled_alignment import derangement, equal_layers_alignment, shuffle_rows

    seeds = sorted(source.cell.seed for source in context.inputs)
    others = derangement(context.parameters.images, _SHUFFLE_SEED).to(context.device)

    def rows(seed: int) -> Tensor:
        return load_file(_rows_file(scratch, seed), device=context.device)["rows"]

    matrices, baselines = {}, {}
    for number, seed in enumerate(seeds):
        second = rows(seed)
        for first in seeds[:number]:
            matrices[first, seed] = alignment(rows(first), second).cpu().numpy()
        shuffle_rows(second, others)
        for first in seeds[:number]:
            baselines[first, seed] = equal_layers_alignment(rows(first), second).cpu().numpy()
    pairs = list(combinations(seeds, 2))
    undefined = sorted({index for seed in seeds for index in undefined_layers(rows(seed))})
    return {
        "layers": np.array(layers),
        "pairs": np.array(pairs),
        "matrices": np.stack([matrices[pair] for pair in pairs]),
        "shuffled": np.stack([baselines[pair] for pair in pairs]),
        "undefined": np.array([layers[index] for index in undefined], dtype=str),
    }


def _leave_rows(
    context: StageContext[CkaParameters], source: Input, blocks: int, scratch: Path
) -> None:
    """Store the rows of one seed in the folder `scratch`."""
    from safetensors.torch import save_file

    from rfray.data.device import normalised, resident
    from rfray.numerics.kernel_alignment import GramSum, UnbiasedGramSum
    from rfray.training.weights import load_network_at

    cell = source.cell
    dataset = resident(cell.dataset, context.device, cell.validation)
    dtype = _dtype(context)
    module = load_network_at(cell, source.folder, _moment(context), context.device).eval().to(dtype)
    images = normalised(dataset.test.images[: context.parameters.images], dataset.facts).to(dtype)
    estimator = {"biased": GramSum, "unbiased": UnbiasedGramSum}[context.parameters.estimator]
    rows = gram_rows(module, images, blocks, estimator)
    save_file({"rows": rows.cpu()}, _rows_file(scratch, cell.seed))


def _rows_file(scratch: Path, seed: int) -> Path:
    return scratch / f"seed{seed}.safetensors"


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
