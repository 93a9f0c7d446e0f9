"""The methods by which the hessian stage finds eigenvalues."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from rfray.numerics.lanczos import Progress
    from rfray.numerics.operator import SymmetricOperator


@dataclass(frozen=True)
class Problem:
    """A network in eval mode, the images and labels of its loss, and the loss's Hessian."""

    module: nn.Module
    images: Tensor
    labels: Tensor
    operator: SymmetricOperator


@dataclass(frozen=True)
class Settings:
    """How eigenvalues are computed.

    Attributes:
        count: Number of eigenvalues.
        tolerance: Largest residual of a converged one, relative to it.
        max_products: Largest number of products of lanczos; None for its default.
        basis_bytes: Memory for the vectors of lanczos.
        device_bytes: How much of it may be on the device that computes.
        micro_batch: Images whose graph is in memory at a time.
        progress: Called with the products of lanczos and its converged eigenvalues.
    """

    count: int
    tolerance: float
    max_products: int | None
    basis_bytes: float
    device_bytes: float
    micro_batch: int
    progress: Progress


@dataclass(frozen=True)
class Found:
    """The result of a method, largest eigenvalue first.

    Attributes:
        values: (n,) float64, or fewer.
        residuals: For each, ‖Hv - λv‖₂.
        converged: For each, whether the residual is within the tolerance.
        products: Number of products with the Hessian, if the method counts them.
        searched: Whether the search for further copies of eigenvalues is complete; None if the
            method has no such search.
    """

    values: Tensor
    residuals: Tensor
    converged: Tensor
    products: int | None
    searched: bool | None


def lanczos(problem: Problem, settings: Settings, generator: torch.Generator) -> Found:
    """Thick-restart Lanczos until every eigenvalue has converged, without weights of zero rows."""
    import torch

    from rfray.models.module import NetworkModule
    from rfray.numerics.lanczos import largest_eigenvalues
    from rfray.numerics.memory import place_basis
    from rfray.numerics.operator import relocated
    from rfray.numerics.support import restricted, support

    touched = problem.operator
    # Attention has rows that are zero up to rounding, which two products do not show.
    if isinstance(problem.module, NetworkModule):
        touched = restricted(touched, support(touched, settings.count, generator))
    place = place_basis(
        touched.dimension,
        touched.dtype,
        settings.count,
        budget=settings.basis_bytes,
        device_budget=settings.device_bytes,
    )
    found = largest_eigenvalues(
        touched if place.on_device else relocated(touched, torch.device("cpu")),
        settings.count,
        tolerance=settings.tolerance,
        max_products=settings.max_products,
        basis_size=place.basis_size,
        generator=generator,
        progress=settings.progress,
    )
    return Found(found.values, found.residuals, found.converged, found.products, found.probed)


def ritz(problem: Problem, settings: Settings, generator: torch.Generator) -> Found:
    """As many Lanczos steps as wanted eigenvalues, and all of their Ritz values."""
    from rfray.numerics.ritz import ritz_values

    found = ritz_values(problem.operator, settings.count, generator)
    products = len(found.values)
    return _found(found.values, found.residuals, products, problem, settings)


def pyhessian(problem: Problem, settings: Settings, generator: torch.Generator) -> Found:
    """PyHessian's power iteration, whose eigenvalues are the largest in magnitude."""
    from rfray.numerics.power_iteration import power_values

    found = power_values(
        problem.module,
        problem.images,
        problem.labels,
        settings.count,
        tolerance=settings.tolerance,
        micro_batch=settings.micro_batch,
        generator=generator,
    )
    return _found(found.values, found.residuals, None, problem, settings)


def _found(
    values: Tensor, residuals: Tensor, products: int | None, problem: Problem, settings: Settings
) -> Found:
    """The result of a method without a search for further copies."""
    from rfray.numerics.lanczos import permitted_residuals

    permitted = permitted_residuals(values, settings.tolerance, problem.operator.dtype)
    return Found(values, residuals, residuals <= permitted, products, searched=None)


METHODS: dict[str, Callable[[Problem, Settings, torch.Generator], Found]] = {
    "lanczos": lanczos,
    "ritz": ritz,
    "pyhessian": pyhessian,
}
