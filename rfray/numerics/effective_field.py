"""The effective receptive field: which pixels influence a unit, and how far apart they are.

W. Luo, Y. Li, R. Urtasun and R. Zemel, *Understanding the Effective Receptive Field in Deep
Convolutional Neural Networks*, NeurIPS 2016: the gradient of a map's central unit with respect to
the pixels is large in the middle of the theoretical receptive field and small near its border.

A map of squares is (height, width), not negative; it is measured if it `has_mass`.
"""

import torch
from torch import Tensor

_ROUNDING = 1e-12


def centre(size: int) -> int:
    """Index of the central one of `size` units in a row; of two, the right one."""
    return size // 2


def central_gradient(maps: Tensor, images: Tensor) -> Tensor:
    """Gradient of the central units of `maps` with respect to `images`, of the images' shape.

    The gradient of the sum over all channels at the centre, each with the factor 1 (Luo et al.
    2016), image by image: an image must not influence another one's map, which holds in eval mode.
    The graph is kept, so that this can be called for further maps of the same images. Both are
    (images, channels, height, width); the images require a gradient.
    """
    height, width = maps.shape[2:]
    units = maps[:, :, centre(height), centre(width)]
    (gradient,) = torch.autograd.grad(units.sum(), images, retain_graph=True)
    return gradient


class SquaredGradient:
    """Mean of |gradient|² at each pixel, over images in batches and channels, in float64."""

    def __init__(self) -> None:
        self.images = 0
        self._sum = torch.zeros((), dtype=torch.float64)
        self._masses = torch.zeros(0, dtype=torch.float64)

    def add(self, gradients: Tensor) -> None:
        """Add gradients (images, channels, height, width)."""
        # In float32, squares of small numbers would be zero.
        each = gradients.detach().double().square().mean(dim=1).cpu()
        self.images += len(each)
        self._sum = self._sum + each.sum(dim=0)
        self._masses = torch.cat([self._masses, each.sum(dim=(1, 2))])

    @property
    def mean(self) -> Tensor:
        """(height, width), float64, on the CPU."""
        return self._sum / self.images

    @property
    def effective_images(self) -> float:
        """The effective number of images: all if they have equal mass, 1 if one has all of it.

        (Σ m)² / Σ m² of the masses m of the images (Kish 1965); NaN if no image has any.
        """
        relative = self._masses / self._masses.max()
        return float(relative.sum().square() / relative.square().sum())


def has_mass(squares: Tensor) -> bool:
    """Whether a map of squares can be measured: finite and not zero."""
    total = float(squares.sum())
    return 0 < total < float("inf")


def centre_of_mass(squares: Tensor) -> tuple[float, float]:
    """Mean row and mean column of a map's mass, in pixels from the first."""
    down, across = _profiles(squares)
    return _moments(down)[0], _moments(across)[0]


def radius(squares: Tensor) -> float:
    """Root of the second moment of a map about its centre of mass, pixels.

    √(Σ m ((y - ȳ)² + (x - x̄)²) / Σ m): 0 for a single pixel, and for a Gaussian √2 times its
    deviation along an axis.
    """
    down, across = _profiles(squares)
    return float((_moments(down)[1] + _moments(across)[1]) ** 0.5)


def _profiles(squares: Tensor) -> tuple[Tensor, Tensor]:
    """The shares of a map's mass in each row, and in each column."""
    shares = squares.double() / squares.double().sum()
    return shares.sum(dim=1), shares.sum(dim=0)


def _moments(shares: Tensor) -> tuple[float, float]:
    """Mean and variance of the places of a mass that sums to 1."""
    places = torch.arange(len(shares), dtype=torch.float64, device=shares.device)
    mean = (shares * places).sum()
    return float(mean), float((shares * (places - mean).square()).sum())


def area(squares: Tensor, held: float = 0.95) -> int:
    """The smallest number of pixels with the share `held`, 0 < held ≤ 1, of a map's mass."""
    largest_first = squares.double().flatten().sort(descending=True).values
    sums = largest_first.cumsum(dim=0)
    # If pixels have exactly this share, a rounding error must not add another pixel.
    reached = sums >= held * float(sums[-1]) * (1 - _ROUNDING)
    return int(reached.int().argmax()) + 1


def share_outside(squares: Tensor, rows: range, columns: range) -> float:
    """Share of a map's mass outside a rectangle of pixels, which is inside the map."""
    inside = torch.zeros_like(squares, dtype=torch.bool)
    inside[rows.start : rows.stop, columns.start : columns.stop] = True
    return float(squares[~inside].sum() / squares.sum())
