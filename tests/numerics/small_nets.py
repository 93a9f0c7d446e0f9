"""Networks of a few hundred parameters, and their Hessian written out."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

CLASSES = 3


class Residual(nn.Module):
    """A convolution with batch norm around which its input is added."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(channels)

    def forward(self, image: Tensor) -> Tensor:
        return F.relu(self.norm(self.conv(image)) + image)


def convolutional() -> nn.Module:
    """Convolution, pool, batch norm, linear; the second convolution sees 1×1 maps."""
    return prepared(
        nn.Sequential(
            nn.Conv2d(2, 4, 3, padding=1),
            nn.MaxPool2d(4, 4),
            nn.BatchNorm2d(4),
            nn.ReLU(),
            nn.Conv2d(4, 3, 3, padding=1),
            nn.Tanh(),
            nn.Flatten(),
            nn.Linear(3, CLASSES),
        )
    )


def residual() -> nn.Module:
    """Two convolutions, the second in a residual block."""
    return prepared(
        nn.Sequential(
            nn.Conv2d(2, 3, 3, stride=2, padding=1, bias=False),
            Residual(3),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(3, CLASSES),
        )
    )


def linear() -> nn.Module:
    return prepared(nn.Sequential(nn.Flatten(), nn.Linear(32, CLASSES)))


def prepared(net: nn.Module) -> nn.Module:
    """Float64, seeded, batch norm with statistics and weights of its own, evaluation mode."""
    draws = torch.Generator().manual_seed(1)
    net = net.double()
    for name, tensor in net.state_dict().items():
        if tensor.is_floating_point():
            tensor.copy_(torch.randn(tensor.shape, generator=draws, dtype=tensor.dtype) * 0.7)
            if name.endswith("running_var"):
                tensor.abs_().add_(0.5)
    return net.eval()


def batch(count: int = 12) -> tuple[Tensor, Tensor]:
    """Images (count, 2, 4, 4) in float64 and labels (count,)."""
    draws = torch.Generator().manual_seed(2)
    images = torch.randn(count, 2, 4, 4, generator=draws, dtype=torch.float64)
    return images, torch.randint(0, CLASSES, (count,), generator=draws)


def explicit_hessian(net: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """∂²L/∂θ∂θ of the mean cross-entropy, entry by entry: (parameters, parameters)."""
    trained = {name: p.detach() for name, p in net.named_parameters() if p.requires_grad}
    sizes = [p.numel() for p in trained.values()]

    def loss(flat: Tensor) -> Tensor:
        parts = zip(trained.items(), flat.split(sizes), strict=True)
        weights = {name: part.view_as(p) for (name, p), part in parts}
        return F.cross_entropy(functional_call(net, weights, (images,)), labels)

    flat = torch.cat([p.flatten() for p in trained.values()])
    return torch.autograd.functional.hessian(loss, flat)
