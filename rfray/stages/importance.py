"""importance: how strongly each pixel influences the centre of an untrained network's last map."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from rfray.cell import Cell
from rfray.models.geometry import geometry
from rfray.parameters import Parameters
from rfray.stages.drawing import save_importance
from rfray.stages.stage import Stage, StageContext
from rfray.training.protocol import Count

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from rfray.models.module import NetworkModule

_CONSTANT_PIXEL = 3.0


class ImportanceParameters(Parameters):
    """Gradient of the centre of the last map with respect to the pixels (Luo et al. 2016)."""

    draws: Annotated[int, Field(ge=2)] = Field(
        default=50, description="Number of random initialisations."
    )
    image_size: Count = Field(default=64, description="Height and width of the input, pixels.")
    backward: Literal["linear", "true"] = Field(
        default="linear",
        description="linear: as in the study, ReLUs pass the gradient on unchanged, max-pools "
        "spread it evenly, the image is constant, and the first channel is used. true: the true "
        "gradient, at a random image, averaged over channels.",
    )


def work(parameters: ImportanceParameters, cell: Cell) -> float:
    """A forward and a backward pass for each draw."""
    shape = geometry(cell.network, parameters.image_size)
    return float(parameters.draws * 3 * shape.multiplications)


def run(context: StageContext[ImportanceParameters]) -> None:
    """Draw networks, report each maximum, write `pattern.npy` and `pattern.png`."""
    import numpy as np

    maps, maxima = [], []
    for draw in range(context.parameters.draws):
        maps.append(_importance(context, draw))
        maxima.append(float(maps[draw].max()))
        context.report(draw, {"max_importance": maxima[draw]})
    context.report(
        0,
        {
            "max_importance_mean": float(np.mean(maxima)),
            "max_importance_std": float(np.std(maxima, ddof=1)),
        },
    )
    mean = np.mean(maps, axis=0)
    np.save(context.workspace / "pattern.npy", mean)
    title = f"{context.cell.arch}, {context.cell.turned_words}"
    save_importance(context.workspace / "pattern.png", title, mean)


def _importance(context: StageContext[ImportanceParameters], draw: int) -> np.ndarray:
    """|gradient| (height, width), float64, of one random initialisation."""
    import torch

    from rfray.models.linear_backward import LINEAR_BACKWARD
    from rfray.models.module import build
    from rfray.seeding import stream_seed

    parameters = context.parameters
    shape = (1, 3, parameters.image_size, parameters.image_size)
    seed = stream_seed(draw, "importance")
    if parameters.backward == "linear":
        module = build(context.cell.network, seed, LINEAR_BACKWARD)
        image = torch.full(shape, _CONSTANT_PIXEL)
        return _gradient(module.to(context.device), image.to(context.device))[0].abs().numpy()
    module = build(context.cell.network, seed)
    noise = torch.Generator().manual_seed(stream_seed(draw, "importance image"))
    image = torch.randn(shape, generator=noise)
    return _gradient(module.to(context.device), image.to(context.device)).abs().mean(0).numpy()


def _gradient(module: NetworkModule, image: Tensor) -> Tensor:
    """Gradient (3, height, width), float64, of the sum of the last map's central units."""
    import torch

    last_maps: list[Tensor] = []
    module.get_submodule(module.network.last_pool.name).register_forward_pre_hook(
        lambda _, inputs: last_maps.append(inputs[0])
    )
    module.eval().requires_grad_(requires_grad=False)
    image.requires_grad_()
    module(image)
    (last,) = last_maps
    centre = last[0, :, last.shape[2] // 2, last.shape[3] // 2]
    (gradient,) = torch.autograd.grad(centre.sum(), image)
    return gradient[0].double().cpu()


STAGE = Stage(
    name="importance",
    version=1,
    parameters=ImportanceParameters,
    scope="network",
    reads=(),
    run=run,
    work=work,
    summary="pixel importance of freshly initialised networks",
    headline="max_importance_mean",
)
