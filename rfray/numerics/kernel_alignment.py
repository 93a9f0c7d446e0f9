"""Linear centred kernel alignment between the layers of networks.

Kornblith, Norouzi, Lee & Hinton 2019, "Similarity of neural network representations revisited",
with the linear kernel, over a full batch: K = XXᵀ of the features X (images, features), centred to
HKH with H = I - 11ᵀ/N, and

    CKA(K, L) = ⟨HKH, HLH⟩ / (‖HKH‖ ‖HLH‖)     (equations 3 to 5, Frobenius product and norms).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from rfray.numerics.errors import NumericsError
from rfray.numerics.precision import full_precision

_CHUNK_NUMBERS = 1 << 24
"""Features are copied in pieces of so many numbers, 64 MiB in float32."""

_STRIPS = 8
"""The lower triangle of a Gram matrix is computed in so many strips."""


def centred_gram(features: Tensor) -> Tensor:
    """HXXᵀH of the features X of one layer; made to be called in a forward hook.

    Products are taken in the dtype of the features, in pieces, of the differences from the first
    image: they are as small as the variation between images, so that no large mean drowns it, and
    exactly zero where a feature is constant. Sums and centring are in float64.

    Args:
        features: (N, ...), N images by all their features, float32 or float64.

    Returns:
        (N, N) float64 on the device of the features, rows and columns summing to zero; exactly
        zero where the features vary by no more than rounding (a dead layer).

    Raises:
        NumericsError: There are fewer than two images, a feature is not finite, or the precision
            is lower than float32.
    """
    if features.dtype not in {torch.float32, torch.float64}:
        raise NumericsError(f"kernel alignment needs float32 or float64, not {features.dtype}")
    images = len(features)
    if images < 2:
        raise NumericsError(f"centring needs at least two images, not {images}")
    flat = features.detach().flatten(start_dim=1)
    gram = torch.zeros(images, images, dtype=torch.float64, device=features.device)
    size = 0.0
    with full_precision(features.device):
        for piece in torch.split(flat, max(1, _CHUNK_NUMBERS // images), dim=1):
            _add_lower_products(gram, piece - piece[0])
            size += float(piece.norm()) ** 2
    if not math.isfinite(size):
        raise NumericsError("a feature is not finite")
    gram = gram.tril() + gram.tril(-1).T
    gram = gram - gram.mean(dim=0)
    gram = gram - gram.mean(dim=1, keepdim=True)
    rounding = 10 * torch.finfo(features.dtype).eps
    return gram if float(gram.trace()) > rounding**2 * size else torch.zeros_like(gram)


def _add_lower_products(gram: Tensor, rows: Tensor) -> None:
    """Adds the products of rows to the lower triangle of `gram`, at little over half their cost."""
    strip = math.ceil(len(rows) / _STRIPS)
    for start in range(0, len(rows), strip):
        stop = start + strip
        gram[start:stop, :stop] += rows[start:stop] @ rows[:stop].T


def normalised_grams(grams: Sequence[Tensor]) -> Tensor:
    """The centred Gram matrices of one network's layers, each as a row of unit length.

    Args:
        grams: One (N, N) matrix for each layer, from `centred_gram`.

    Returns:
        (layers, N·N) float32; NaN in the row of a layer whose Gram matrix is zero.
    """
    return torch.stack([(gram / gram.norm()).flatten().float() for gram in grams])


def alignment(first: Tensor, second: Tensor) -> Tensor:
    """Linear CKA between all layers of two networks, by one matrix product.

    The matrix is symmetric only where a network meets itself: entry (i, j) compares layer i of the
    first with layer j of the second. alignment(a, b) is alignment(b, a).T.

    Args:
        first: (layers of the first, N·N), from `normalised_grams`.
        second: (layers of the second, N·N), of the same images.

    Returns:
        (layers of the first, layers of the second), in [0, 1] up to rounding; NaN where a layer is
        undefined.

    Raises:
        NumericsError: The two were not computed over as many images.
    """
    if first.shape[1] != second.shape[1]:
        raise NumericsError("the Gram matrices are of different numbers of images")
    with full_precision(first.device):
        return first @ second.T


def undefined_layers(grams: Tensor) -> list[int]:
    """Indices of the layers, rows of `normalised_grams`, that do not tell any images apart."""
    return [int(index) for index in grams.isnan().any(dim=1).nonzero().flatten()]
