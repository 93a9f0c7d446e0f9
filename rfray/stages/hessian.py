"""hessian: the largest eigenvalues, the spectral density and the trace of the loss Hessian."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from rfray.cell import Cell
from rfray.parameters import NOTHING_TWICE, Parameters
from rfray.stages.drawing import save_spectrum
from rfray.stages.hessian_methods import METHODS, Found, Problem
from rfray.stages.stage import Fan, Stage, StageContext, too_few
from rfray.terminal.telling import each_second, tell
from rfray.training.protocol import Count, Positive

if TYPE_CHECKING:
    from rfray.numerics.quadrature import SpectralDensity

_PRODUCT_TO_FORWARD = 6
"""A Hessian-vector product costs about six forward passes, or four if the graph is kept."""

_DENSITY_POINTS = 500
_DENSITY_WIDTH = 0.01


class HessianParameters(Parameters):
    """The Hessian of the mean cross-entropy in eval mode, over a fixed set of training images."""

    at: Annotated[list[Literal["init", "trained"]], Field(min_length=1), NOTHING_TWICE] = Field(
        default=["init", "trained"], description="Which weights: before or after training."
    )
    n: Count = Field(default=90, description="Number of largest eigenvalues.")
    images: Count = Field(
        default=1000,
        description="Number of training images, a random subset that is the same in every run.",
    )
    method: Literal["lanczos", "ritz", "pyhessian"] = Field(
        default="lanczos",
        description="lanczos: iterate until all n have converged. ritz: n Lanczos steps and all of "
        "their n Ritz values, converged or not, as the author's code does with 90. pyhessian: the "
        "power iteration of that library, which finds the eigenvalues largest in magnitude.",
    )
    tolerance: Positive = Field(
        default=1e-3, description="Largest residual of a converged eigenvalue, relative to it."
    )
    max_products: Count | None = Field(
        default=None,
        description="Largest number of Hessian-vector products of lanczos, at least 2 n + 1; it "
        "then stops, converged or not. null: 300 + 30 n.",
    )
    basis_gigabytes: Positive = Field(
        default=12.0,
        description="Memory for the vectors of lanczos, in 10^9 bytes. They are on the device if "
        "they need less than half of its free memory, else in main memory.",
    )
    probes: Count = Field(
        default=5, description="Number of random vectors for the density and the trace."
    )
    steps: Count = Field(default=50, description="Lanczos steps of each probe.")
    micro_batch: Count = Field(
        default=250, description="Images whose graph is in memory at a time; limits memory."
    )


def work(parameters: HessianParameters, cell: Cell) -> float:
    """Five products for each eigenvalue, and those of the probes."""
    products = 20 + 5 * parameters.n + parameters.probes * parameters.steps
    images = products * parameters.images * _PRODUCT_TO_FORWARD
    return float(images * cell.multiplications)


def check(parameters: HessianParameters, cell: Cell) -> str | None:
    """Whether there are enough training images, and lanczos may take enough products."""
    least = 2 * parameters.n + 1
    if parameters.max_products is not None and parameters.max_products < least:
        return (
            f"hessian.max_products is {parameters.max_products}, and n = {parameters.n} needs at "
            f"least {least}"
        )
    return too_few("hessian.images", parameters.images, cell, "training")


def run(context: StageContext[HessianParameters]) -> None:
    """Compute, check and report the spectrum; write two csv files and a picture."""
    import torch

    from rfray.numerics.operator import check_operator
    from rfray.numerics.quadrature import spectral_density

    parameters, started = context.parameters, time.perf_counter()
    problem = _problem(context)
    generator = torch.Generator().manual_seed(0)
    check_operator(problem.operator, generator, tolerance=parameters.tolerance)
    tell(f"looking for eigenvalues ({parameters.method})")
    found = METHODS[parameters.method](problem, generator)
    done = each_second("spectral density", parameters.steps, "steps")
    density = spectral_density(
        problem.operator, parameters.probes, parameters.steps, generator, done
    )
    _report(context, found, density)
    for sentence in doubts(found, parameters.tolerance):
        context.remark(sentence)
    _write_spectrum(context, found)
    grid, values = _write_density(context, density)
    context.report(0, {"wall_seconds": time.perf_counter() - started})
    title = context.title(f"seed {context.cell.seed}", str(context.variant["at"]))
    picture = context.workspace / "spectrum.png"
    save_spectrum(picture, title, found.values.tolist(), found.converged.tolist(), grid, values)


def _problem(context: StageContext[HessianParameters]) -> Problem:
    from rfray.data.device import normalised, resident
    from rfray.data.subset import chosen_images
    from rfray.models.folded import folded
    from rfray.numerics.hessian import hessian_operator
    from rfray.training.weights import load_at

    cell, parameters = context.cell, context.parameters
    trained, at = context.input("train"), str(context.variant["at"])
    module = load_at(cell, trained.folder, at, context.device).eval()
    dataset = resident(cell.dataset, context.device, cell.validation)
    chosen = chosen_images(dataset.train, parameters.images)
    images, labels = normalised(chosen.images, dataset.facts), chosen.labels
    operator = hessian_operator(folded(module), images, labels, micro_batch=parameters.micro_batch)
    return Problem(context, module, images, labels, operator)


def _report(
    context: StageContext[HessianParameters], found: Found, density: SpectralDensity
) -> None:
    for rank, (value, residual) in enumerate(
        zip(found.values.tolist(), found.residuals.tolist(), strict=True)
    ):
        context.report(rank, {"eigenvalue": value, "residual": residual})
    summary: dict[str, float] = {"trace": density.trace}
    if context.parameters.probes > 1:
        summary["trace_standard_error"] = density.trace_standard_error
    if found.searched is not None:
        summary["searched_for_missed_copies"] = int(found.searched)
    if found.products is not None:
        summary["products"] = found.products + density.products
    context.report(0, summary)
    # After the last progress report, so that it is the latest value.
    converged = int(found.converged.sum())
    context.report(found.products or 0, {"converged_eigenvalues": converged})


def doubts(found: Found, tolerance: float) -> list[str]:
    """Reasons why a spectrum may not be exact, in sentences; ranks count from 0."""
    sentences = []
    ranks = (~found.converged).nonzero().flatten().tolist()
    if ranks:
        worst = (found.residuals / found.values.abs())[ranks].max()
        sentences.append(
            f"{len(ranks)} of {len(found.values)} eigenvalues have not converged to a residual of "
            f"{tolerance:g}: rank {_ranges(ranks)}, with residuals of up to {float(worst):.2g} of "
            "the eigenvalue."
        )
    if found.searched is False:
        sentences.append(
            "The search for further copies of eigenvalues was cut short: a multiple eigenvalue may "
            "have too few copies in the list."
        )
    return sentences


def _ranges(ranks: list[int]) -> str:
    """`3, 5-9, 12` of ascending numbers."""
    runs: list[list[int]] = []
    for rank in ranks:
        if runs and rank == runs[-1][-1] + 1:
            runs[-1].append(rank)
        else:
            runs.append([rank])
    return ", ".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs)


def _write_spectrum(context: StageContext[HessianParameters], found: Found) -> None:
    import pandas as pd

    frame = pd.DataFrame(
        {
            "eigenvalue": found.values.tolist(),
            "residual": found.residuals.tolist(),
            "converged": found.converged.tolist(),
        }
    )
    frame.to_csv(context.workspace / "spectrum.csv", index_label="rank")


def _write_density(
    context: StageContext[HessianParameters], density: SpectralDensity
) -> tuple[list[float], list[float]]:
    """Write `density.csv`; its columns: eigenvalues, ascending, and the density there."""
    import pandas as pd
    import torch

    from rfray.numerics.quadrature import smoothed

    lowest, highest = float(density.nodes.min()), float(density.nodes.max())
    # A spectrum of one point must have a width as well.
    spread = max(highest - lowest, 1e-6 * max(abs(lowest), abs(highest)), 1e-12)
    margin = 5 * _DENSITY_WIDTH * spread
    grid = torch.linspace(lowest - margin, highest + margin, _DENSITY_POINTS, dtype=torch.float64)
    values = smoothed(density, grid, _DENSITY_WIDTH * spread)
    frame = pd.DataFrame({"eigenvalue": grid.tolist(), "density": values.tolist()})
    frame.to_csv(context.workspace / "density.csv", index=False)
    return grid.tolist(), values.tolist()


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
    micro_batch="micro_batch",
    fan=Fan(parameter="at", variant="at"),
    check=check,
    opaque=True,
)
