"""The methods by which the hessian stage finds eigenvalues."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rfray.device.card import Card, room

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from rfray.numerics.operator import SymmetricOperator
    from rfray.stages.hessian import HessianParameters
    from rfray.stages.stage import StageContext


@dataclass(frozen=True)
class Problem:
    """A network in eval mode, the images and labels of its loss, and the loss's Hessian."""

    context: StageContext[HessianParameters]
    module: nn.Module
    images: Tensor
    labels: Tensor
    operator: SymmetricOperator

    @property
    def parameters(self) -> HessianParameters:
        """The settings of the stage."""
        return self.context.parameters


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


def basis_bytes_on(card: Card) -> float:
    """Bytes of a card that the basis may take: half of its room, for the graphs need the rest."""
    return room(card) / 2


def lanczos(problem: Problem, generator: torch.Generator) -> Found:
    """Thick-restart Lanczos until every eigenvalue has converged, without weights of zero rows."""
    import torch

    from rfray.models.module import NetworkModule
    from rfray.numerics.lanczos import largest_eigenvalues, place_basis
    from rfray.numerics.operator import relocated
    from rfray.numerics.support import restricted, support

    touched, context, parameters = problem.operator, problem.context, problem.parameters
    # Attention has rows that are zero up to rounding, which two products do not show.
    if isinstance(problem.module, NetworkModule):
        touched = restricted(touched, support(touched, parameters.n, generator))
    place = place_basis(
        touched.dimension,
        touched.dtype,
        parameters.n,
        budget=parameters.basis_gigabytes * 1e9,
        device_budget=basis_bytes_on(context.card),
    )
    found = largest_eigenvalues(
        touched if place.on_device else relocated(touched, torch.device("cpu")),
        parameters.n,
        tolerance=parameters.tolerance,
        max_products=parameters.max_products,
        basis_size=place.basis_size,
        generator=generator,
        progress=lambda products, converged: context.report(
            products, {"converged_eigenvalues": converged}
        ),
    )
    return Found(found.values, found.residuals, found.converged, found.products, found.probed)


def ritz(problem: Problem, generator: torch.Generator) -> Found:
    """As many Lanczos steps as wanted eigenvalues, and all of their Ritz values."""
    from rfray.numerics.krylov import ritz_values

    found = ritz_values(problem.operator, problem.parameters.n, generator)
    return _found(found.values, found.residuals, len(found.values), problem)


def pyhessian(problem: Problem, generator: torch.Generator) -> Found:
    """PyHessian's power iteration, whose eigenvalues are the largest in magnitude."""
    from rfray.numerics.power_iteration import power_values

    found = power_values(
        problem.module,
        problem.images,
        problem.labels,
        problem.parameters.n,
        tolerance=problem.parameters.tolerance,
        micro_batch=problem.parameters.micro_batch,
        generator=generator,
    )
    return _found(found.values, found.residuals, None, problem)


def _found(values: Tensor, residuals: Tensor, products: int | None, problem: Problem) -> Found:
    """The result of a method without a search for further copies."""
    from rfray.numerics.lanczos import permitted_residuals

    tolerance = problem.parameters.tolerance
    permitted = permitted_residuals(values, tolerance, problem.operator.dtype)
    return Found(values, residuals, residuals <= permitted, products, searched=None)


METHODS: dict[str, Callable[[Problem, torch.Generator], Found]] = {
    "lanczos": lanczos,
    "ritz": ritz,
    "pyhessian": pyhessian,
}
