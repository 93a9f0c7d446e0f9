"""PyHessian's power iteration, with residuals from rfray's own products: a cross-check."""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rfray.numerics.hessian import hessian_operator, twice_differentiable
from rfray.numerics.operator import residual_norms


@dataclass(frozen=True)
class PowerValues:
    """What power iteration with deflation found.

    Attributes:
        values: (count,) float64 on the CPU, largest first. They are the largest in magnitude, so
            some may be negative.
        residuals: (count,) float64 on the CPU, ‖Hv - λv‖₂ from one more product with each v.
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

    Its starting vectors come from torch's global generator, which is seeded from `generator` during
    the call, so that equal seeds give equal numbers. Network, images, labels and micro-batch are as
    for `hessian_operator`. The tolerance is PyHessian's: the relative change of an eigenvalue in
    one iteration. It does not bound the error, as the residuals show.
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
    return PowerValues(values, residual_norms(operator, values, columns))
