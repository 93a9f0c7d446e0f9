"""hessian: the largest eigenvalues, the spectral density and the trace of the loss Hessian."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, field_validator

from rfray.cell import Cell
from rfray.parameters import Parameters
from rfray.stages.stage import Fan, Stage, StageContext
from rfray.training.protocol import Count, Positive

if TYPE_CHECKING:
    from torch import Tensor

    from rfray.numerics.lanczos import Eigenpairs
    from rfray.numerics.operator import SymmetricOperator
    from rfray.numerics.quadrature import SpectralDensity

_PRODUCT_TO_FORWARD = 6
"""A Hessian-vector product costs about six forward passes, or four through a kept graph."""

_DENSITY_POINTS = 500
_DENSITY_WIDTH = 0.01
_WEIGHTS = {"init": "init.safetensors", "trained": "model.safetensors"}


class HessianParameters(Parameters):
    """The Hessian of the mean cross-entropy in eval mode, over a fixed set of training images."""

    at: Annotated[list[Literal["init", "trained"]], Field(min_length=1)] = Field(
        default=["init", "trained"], description="Which weights: before or after training."
    )
    n: Count = Field(default=90, description="How many of the largest eigenvalues.")
    images: Count = Field(
        default=1000, description="Training images, a random subset that is the same in every run."
    )
    tolerance: Positive = Field(
        default=1e-3, description="Largest residual of a converged eigenvalue, relative to it."
    )
    probes: Count = Field(default=5, description="Random vectors for the density and the trace.")
    steps: Count = Field(default=50, description="Lanczos steps of each probe.")
    micro_batch: Count = Field(
        default=250, description="Images of which a graph is held at a time; bounds memory."
    )

    @field_validator("at")
    @classmethod
    def _nothing_twice(cls, values: list[str]) -> list[str]:
        if len(set(values)) < len(values):
            raise ValueError("a value is listed twice")
        return values


def work(parameters: HessianParameters, cell: Cell) -> float:
    """Five products an eigenvalue, and those of the probes."""
    products = 20 + 5 * parameters.n + parameters.probes * parameters.steps
    images = products * parameters.images * _PRODUCT_TO_FORWARD
    return float(images * cell.geometry.multiplications)


def check(parameters: HessianParameters, cell: Cell) -> str | None:
    """Whether the training split holds enough images."""
    if parameters.images > cell.facts.train_images:
        return f"hessian.images is {parameters.images}, but {cell.dataset} has " + (
            f"{cell.facts.train_images} training images"
        )
    return None


def run(context: StageContext[HessianParameters]) -> None:
    """Find, certify and report the spectrum; leave `spectrum.csv` and `density.csv`."""
    import torch

    from rfray.numerics.lanczos import largest_eigenvalues
    from rfray.numerics.operator import check_operator
    from rfray.numerics.quadrature import spectral_density
    from rfray.numerics.support import restricted, support

    parameters = context.parameters
    operator = _operator(context)
    generator = torch.Generator().manual_seed(0)
    check_operator(operator, generator)
    touched = restricted(operator, support(operator, parameters.n, generator))
    eigenpairs = largest_eigenvalues(
        touched, parameters.n, tolerance=parameters.tolerance, generator=generator
    )
    density = spectral_density(operator, parameters.probes, parameters.steps, generator)
    _report(context, eigenpairs, density)
    _write_spectrum(context, eigenpairs)
    _write_density(context, density)


def _operator(context: StageContext[HessianParameters]) -> SymmetricOperator:
    from rfray.data.device import normalised, resident
    from rfray.models.folded import FoldedModule
    from rfray.numerics.hessian import hessian_operator
    from rfray.training.weights import load_module

    cell, parameters = context.cell, context.parameters
    weights = context.input("train").artifact(_WEIGHTS[str(context.variant["at"])])
    module = FoldedModule(load_module(cell, weights, context.device))
    dataset = resident(cell.dataset, context.device)
    chosen = _chosen_images(len(dataset.train), parameters.images).to(context.device)
    return hessian_operator(
        module,
        normalised(dataset.train.images[chosen], dataset.facts),
        dataset.train.labels[chosen],
        micro_batch=parameters.micro_batch,
    )


def _chosen_images(available: int, wanted: int) -> Tensor:
    """A random subset, the same everywhere: a data set sorted by class must not give one class."""
    import torch

    generator = torch.Generator().manual_seed(0)
    return torch.randperm(available, generator=generator)[:wanted].sort().values


def _report(
    context: StageContext[HessianParameters], eigenpairs: Eigenpairs, density: SpectralDensity
) -> None:
    for rank, (value, residual) in enumerate(
        zip(eigenpairs.values.tolist(), eigenpairs.residuals.tolist(), strict=True)
    ):
        context.report(rank, {"eigenvalue": value, "residual": residual})
    summary = {
        "trace": density.trace,
        "converged_eigenvalues": int(eigenpairs.converged.sum()),
        "searched_for_missed_copies": int(eigenpairs.probed),
        "products": eigenpairs.products + density.products,
    }
    if context.parameters.probes > 1:
        summary["trace_standard_error"] = density.trace_standard_error
    context.report(0, summary)


def _write_spectrum(context: StageContext[HessianParameters], eigenpairs: Eigenpairs) -> None:
    import pandas as pd

    frame = pd.DataFrame(
        {
            "eigenvalue": eigenpairs.values.tolist(),
            "residual": eigenpairs.residuals.tolist(),
            "converged": eigenpairs.converged.tolist(),
        }
    )
    frame.to_csv(context.workspace / "spectrum.csv", index_label="rank")


def _write_density(context: StageContext[HessianParameters], density: SpectralDensity) -> None:
    import pandas as pd
    import torch

    from rfray.numerics.quadrature import smoothed

    lowest, highest = float(density.nodes.min()), float(density.nodes.max())
    # A spectrum of one point still needs a width to be drawn with.
    spread = max(highest - lowest, 1e-6 * max(abs(lowest), abs(highest)), 1e-12)
    margin = 5 * _DENSITY_WIDTH * spread
    grid = torch.linspace(lowest - margin, highest + margin, _DENSITY_POINTS, dtype=torch.float64)
    values = smoothed(density, grid, _DENSITY_WIDTH * spread)
    frame = pd.DataFrame({"eigenvalue": grid.tolist(), "density": values.tolist()})
    frame.to_csv(context.workspace / "density.csv", index=False)


STAGE = Stage(
    name="hessian",
    version=1,
    parameters=HessianParameters,
    scope="cell",
    reads=("train",),
    run=run,
    work=work,
    summary="the spectrum of its loss Hessian",
    headline="trace",
    fan=Fan(parameter="at", variant="at"),
    check=check,
)
