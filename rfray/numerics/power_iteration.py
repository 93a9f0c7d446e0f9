"""PyHessian's power iteration, certified as our own eigenvalues are: a cross-check."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rfray.numerics.hessian import hessian_operator, twice_differentiable


@dataclass(frozen=True)
class PowerValues:
    """What power iteration with deflation found.

    Attributes:
        values: (count,) float64 on the CPU, in the order of their size, largest first; the ones
            that are largest in magnitude, so negative ones may be among them.
        residuals: (count,) float64 on the CPU, ‖Hv - λv‖₂ by one more product with each v.
    """

    values: Tensor
    residuals: Tensor


def power_values(
    module: nn.Module,
    images: Tensor,
    labels: Tensor,
    count: int,
    *,
    tolerance: float,
    micro_batch: int,
    generator: torch.Generator,
    most_iterations: int = 1000,
) -> PowerValues:
    """The leading eigenvalues by PyHessian (Yao et al. 2020) with its own products.

    Its starting vectors come from torch's global generator, which is seeded from `generator` for
    the time of the call, so that equal seeds give equal numbers.

    Args:
        module: A network in evaluation mode, on the device of the images.
        images: (N, channels, height, width).
        labels: (N,) int64.
        count: How many eigenvalues.
        tolerance: PyHessian's: the change of an eigenvalue in one iteration, relative to it. It is
            no bound of the error, as the residuals tell.
        micro_batch: Images of which a graph is held at a time.
        generator: Seeds it.
        most_iterations: Products for one eigenvalue, after which PyHessian takes it as it is.
    """
    from pyhessian import hessian

    seed = int(torch.randint(0, 2**31, (1,), generator=generator))
    batches = list(zip(images.split(micro_batch), labels.split(micro_batch), strict=True))
    data: dict[str, Any] = {"data": batches[0]} if len(batches) == 1 else {"dataloader": batches}
    cuda = images.device.type == "cuda"
    with torch.random.fork_rng(devices=[images.device] if cuda else []):
        torch.manual_seed(seed)
        with twice_differentiable():
            found, vectors = hessian(module, F.cross_entropy, cuda=cuda, **data).eigenvalues(
                maxIter=most_iterations, tol=tolerance, top_n=count
            )
    # PyHessian leaves gradients, and through them its graph, in the module.
    module.zero_grad(set_to_none=True)
    values = torch.tensor(found, dtype=torch.float64)
    order = values.argsort(descending=True)
    columns = torch.stack([torch.cat([part.flatten() for part in v]).detach() for v in vectors])[
        order.to(images.device)
    ].T
    values = values[order]
    operator = hessian_operator(module, images, labels, micro_batch=micro_batch)
    residuals = torch.cat(
        [
            (operator.apply(column) - value.to(column) * column).double().norm(dim=0).cpu()
            for value, column in zip(values, columns.split(1, dim=1), strict=True)
        ]
    )
    return PowerValues(values, residuals)
