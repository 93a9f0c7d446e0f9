"""The Hessian of a network's loss as a symmetric operator.

Measured on one CPU thread for vgg19_rf (width 1/4, k = 5, 1.26 M parameters, 256 images), one
product: forward over reverse 0.83 s; double backward through a kept graph 0.44 s; the same for
each of four vectors at once (`is_grads_batched`) 0.48 s; through a kept graph of live taps 0.22 s.
The last is used here. `torch.compile` of a traced product had not finished after seven minutes on
two cores; all products of a spectrum take one minute.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from rfray.numerics.errors import NumericsError
from rfray.numerics.live_taps import LiveTaps
from rfray.numerics.operator import SymmetricOperator
from rfray.numerics.precision import full_precision

Loss = Callable[[Tensor, Tensor], Tensor]
"""From network outputs (n, classes) and labels (n,) to the mean loss over n images, a scalar."""


def twice_differentiable() -> AbstractContextManager[None]:
    """A context in which attention uses the only PyTorch kernel that has second derivatives."""
    return sdpa_kernel(SDPBackend.MATH)


def hessian_operator(
    module: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    micro_batch: int | None = None,
    loss: Loss = F.cross_entropy,
) -> SymmetricOperator:
    """The exact Hessian of the mean loss over a fixed set of images, by double backward.

    H = ∂²L/∂θ∂θ with L(θ) = (1/N) Σ loss(network_θ(image), label), and Hv = ∂(v·∂L/∂θ)/∂θ
    (Pearlmutter 1994, "Fast exact multiplication by the Hessian"). θ is every parameter that
    requires a gradient, flattened, in the order of `named_parameters`.

    With one micro-batch the graph of the first backward pass is kept as long as the operator
    exists, and a product costs one more backward pass through it. With several, every `apply`
    builds each graph again, once for all columns of the block, and frees it before the next. The
    module is not changed.

    Args:
        module: A network in evaluation mode, on the device of the images; it must not change while
            the operator is in use.
        images: (N, channels, height, width), in the dtype of the parameters.
        labels: (N,) int64.
        micro_batch: Number of images whose graph is in memory at a time, which limits memory; all
            images by default.
        loss: The mean loss of a batch; cross-entropy by default.

    Returns:
        An operator whose dimension is the number of parameters, with their device and dtype.

    Raises:
        NumericsError: The module or a part of it is in training mode, no parameter requires a
            gradient, there are no images or not as many labels, or the micro-batch is empty.
    """
    parameters = [p for p in module.parameters() if p.requires_grad]
    total = len(images)
    size = total if micro_batch is None else micro_batch
    _refuse(module, parameters, total, len(labels), size)
    device = parameters[0].device

    def gradient(start: int) -> list[Tensor]:
        part = slice(start, start + size)
        with full_precision(device), torch.enable_grad(), LiveTaps(), twice_differentiable():
            share = len(images[part]) / total
            mean = loss(module(images[part]), labels[part]) * share
            return list(
                torch.autograd.grad(
                    mean, parameters, create_graph=True, allow_unused=True, materialize_grads=True
                )
            )

    kept = gradient(0) if size >= total else None

    def apply(block: Tensor) -> Tensor:
        if kept is not None:
            return _products(kept, parameters, block)
        # Built inside the call, so that each graph is freed before the next one is built.
        return sum(
            (_products(gradient(start), parameters, block) for start in range(0, total, size)),
            start=torch.zeros_like(block),
        )

    return SymmetricOperator(sum(p.numel() for p in parameters), device, parameters[0].dtype, apply)


def _products(gradient: Sequence[Tensor], parameters: Sequence[Tensor], block: Tensor) -> Tensor:
    """The derivative of `gradient` along each column: (dimension, b) to (dimension, b)."""
    # If the loss is linear in a parameter, its gradient has no second derivative.
    curved = [g.requires_grad for g in gradient]
    if not any(curved):
        return torch.zeros_like(block)
    sizes = [p.numel() for p in parameters]
    columns = []
    with full_precision(block.device):
        for vector in block.unbind(dim=1):
            direction = [
                v.view_as(p) for v, p in zip(torch.split(vector, sizes), parameters, strict=True)
            ]
            derivatives = torch.autograd.grad(
                [g for g, c in zip(gradient, curved, strict=True) if c],
                parameters,
                [v for v, c in zip(direction, curved, strict=True) if c],
                retain_graph=True,
                allow_unused=True,
                materialize_grads=True,
            )
            columns.append(torch.cat([d.flatten() for d in derivatives]))
    return torch.stack(columns).T


def _refuse(
    module: nn.Module, parameters: Sequence[Tensor], images: int, labels: int, micro_batch: int
) -> None:
    training = [name or "the module" for name, part in module.named_modules() if part.training]
    if training:
        raise NumericsError(
            f"the Hessian is taken in evaluation mode; {training[0]} is in training mode"
        )
    if not parameters:
        raise NumericsError("no parameter of the module requires a gradient")
    if images == 0 or labels != images:
        raise NumericsError(f"{images} images with {labels} labels are not a batch")
    if micro_batch < 1:
        raise NumericsError(f"a micro-batch has at least one image, not {micro_batch}")
