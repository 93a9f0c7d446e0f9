"""Linear centred kernel alignment between the layers of networks.

Kornblith, Norouzi, Lee & Hinton 2019, "Similarity of neural network representations revisited",
with the linear kernel, over a full batch: K = XXᵀ of the features X (images, features), centred to
HKH with H = I - 11ᵀ/N, and

    CKA(K, L) = ⟨HKH, HLH⟩ / (‖HKH‖ ‖HLH‖)     (equations 3 to 5, Frobenius product and norms).

⟨HKH, HLH⟩ is (N - 1)² times the biased estimate of the Hilbert-Schmidt independence criterion: for
independent features it is above 0, and CKA tends to 1 for wider layers (Murphy, Zylberberg &
Fyshe 2024, "Correcting biased centered kernel alignment measures in biological and artificial
neural networks"). The unbiased estimate (Song, Smola, Gretton, Bedo & Borgwardt 2012, "Feature
selection via dependence maximization"; in CKA: Nguyen, Raghu & Kornblith 2021, "Do wide and deep
networks learn the same things?") is ⟨U, V⟩ / (N (N - 3)) with the U-centred K and L (Székely &
Rizzo 2014, "Partial distance correlation with methods for dissimilarities"):

    Uᵢⱼ = Kᵢⱼ - Σₗ Kᵢₗ / (N - 2) - Σₖ Kₖⱼ / (N - 2) + Σₖₗ Kₖₗ / ((N - 1)(N - 2))   for i ≠ j, and 0,

in sums without the diagonal. With either centring CKA is a dot product (`GramSum`,
`UnbiasedGramSum`).

K is a sum over features, so features may be added in any number of pieces. A piece needs all images
at once, or all pairs of blocks of images, one pass for each pair (`block_passes`).
"""

import math
from dataclasses import dataclass
from itertools import combinations, pairwise
from typing import cast

import torch
from torch import Tensor

from rfray.numerics.errors import NumericsError
from rfray.numerics.precision import full_precision
from rfray.numerics.products import add_product

_CHUNK_NUMBERS = 1 << 22
"""Features are copied in pieces of this many numbers, 16 MiB in float32."""

_LEAST_UNBIASED = 4
"""For three images or fewer every U-centred matrix is zero."""


@dataclass(frozen=True)
class BlockPass:
    """The images whose features are given at once, and which of their products are needed.

    Attributes:
        spans: Ranges of images, ascending and disjoint. The first begins with image 0, which is
            subtracted from all images.
        products: Pairs (i, j), j ≤ i: the products of the images of span i with those of span j.
    """

    spans: tuple[tuple[int, int], ...]
    products: tuple[tuple[int, int], ...]

    @property
    def images(self) -> list[int]:
        """Indices of the images, in the order in which their features are given."""
        return [image for start, stop in self.spans for image in range(start, stop)]


def block_passes(images: int, blocks: int) -> list[BlockPass]:
    """Passes that together cover every pair of images; each pass has two blocks of images.

    B blocks need B(B - 1)/2 passes over 2/B of the images, so that every image is in B - 1 passes.
    Two blocks need one pass over all images.

    Raises:
        NumericsError: There are fewer than two images, or more blocks than images.
    """
    spans = _spans(images, blocks)
    passes = []
    for low, high in combinations(range(blocks), 2):
        # The products within a block are computed once: in the pass with the next block.
        wanted = [(high, low)]
        wanted += [(low, low)] if high == low + 1 else []
        wanted += [(high, high)] if low == blocks - 2 else []
        present = {low: spans[low], high: spans[high]}
        if low > 0:
            present = {-1: (0, 1), **present}
        place = {block: index for index, block in enumerate(present)}
        passes.append(
            BlockPass(tuple(present.values()), tuple((place[i], place[j]) for i, j in wanted))
        )
    return passes


class GramSum:
    """The Gram matrix of one layer, summed over its features piece by piece.

    Products and sums are in the dtype of the features. The first image is subtracted from all
    images before products are taken. So a large mean does not cost precision, and constant
    features give exactly zero.
    """

    def __init__(
        self, images: int, device: torch.device, dtype: torch.dtype = torch.float32
    ) -> None:
        """The sum before any features are added; device and dtype are those of the features.

        Raises:
            NumericsError: There are fewer than two images, or the precision is lower than float32.
        """
        if dtype not in {torch.float32, torch.float64}:
            raise NumericsError(f"kernel alignment needs float32 or float64, not {dtype}")
        (self._whole,) = block_passes(images, 2)
        self._images = images
        self._gram = torch.zeros(images, images, dtype=dtype, device=device)
        self._reference = torch.zeros((), dtype=torch.float64, device=device)
        self._ended = False

    def add(self, features: Tensor, of: BlockPass | None = None) -> None:
        """Add the products of some features; it may be called during a forward pass.

        Args:
            features: (images of the pass, ...), in the dtype of the sum.
            of: Which images they are and which products are needed; by default all.

        Raises:
            NumericsError: The number of images or the dtype is wrong, or the sum has been
                normalised.
        """
        self._refuse_if_ended()
        if features.dtype != self._gram.dtype:
            wanted = self._gram.dtype
            raise NumericsError(f"features must be {wanted}, not {features.dtype}")
        block = of or self._whole
        images = sum(stop - start for start, stop in block.spans)
        if len(features) != images:
            raise NumericsError(f"features must be of {images} images, not of {len(features)}")
        flat = _flat(features.detach())
        with full_precision(features.device):
            for piece in torch.split(flat, max(1, _CHUNK_NUMBERS // images), dim=1):
                self._add_piece(piece, block)

    def _add_piece(self, piece: Tensor, block: BlockPass) -> None:
        differences = piece - piece[0]
        if (0, 0) in block.products:
            self._reference += torch.linalg.vector_norm(piece[0]).square()
        rows = differences.split([stop - start for start, stop in block.spans])
        for left, right in block.products:
            of = self._gram[slice(*block.spans[left]), slice(*block.spans[right])]
            add_product(of, rows[left], rows[right].T)

    def normalised(self, out: Tensor | None = None) -> Tensor:
        """HXXᵀH / ‖HXXᵀH‖ as a vector: dot products of vectors are Frobenius products of matrices.

        It overwrites the sum, so nothing can be added afterwards.

        Args:
            out: (N²,) float32 to write to; a new vector by default.

        Returns:
            (N²,) float32; NaN if all images have the same features up to rounding (a dead layer).

        Raises:
            NumericsError: A feature is not finite, or the sum has been normalised already.
        """
        self._refuse_if_ended()
        self._ended = True
        # Right of the diagonal the sum is incomplete: every pair of images is added once.
        self._gram = self._gram.tril()
        self._gram += self._gram.tril(-1).T
        before = self._trace()
        self._centre()
        # One transfer from the device for both.
        size, trace = torch.stack([before + self._images * self._reference, self._trace()]).tolist()
        if not math.isfinite(size):
            raise NumericsError("a feature is not finite")
        row = torch.empty(self._images**2, device=self._gram.device) if out is None else out
        of = torch.finfo(self._gram.dtype)
        # Products that are too small have lost their digits, and mean nothing either.
        if trace <= max((10 * of.eps) ** 2 * size, of.tiny / of.eps):
            return row.fill_(math.nan)
        self._end_centring()
        # Divided by the trace first, so that squares of squares do not underflow or overflow.
        torch.mul(self._gram.flatten(), 1 / trace, out=row)
        # In float64: in float32 the sum of so many squares has a relative error of 3e-6.
        norm = torch.linalg.vector_norm(row, dtype=torch.float64)
        return row.div_(norm.where(norm > 10 * of.eps, math.nan))

    def _end_centring(self) -> None:
        """Completes the centring of an estimator; the biased one needs HXXᵀH only."""

    def _refuse_if_ended(self) -> None:
        if self._ended:
            raise NumericsError("the sum of features has been normalised and cannot be used again")

    def _trace(self) -> Tensor:
        return self._gram.diagonal().sum(dtype=torch.float64)

    def _centre(self) -> None:
        """Subtract the mean of each row and column, and add the mean of all."""
        means = self._gram.mean(dim=1)
        self._gram -= means[:, None]
        self._gram -= means - means.mean()


class UnbiasedGramSum(GramSum):
    """The Gram matrix of one layer, U-centred: its products are the unbiased estimate.

    It is undefined also if all pairs of images have the same distance.
    """

    def __init__(
        self, images: int, device: torch.device, dtype: torch.dtype = torch.float32
    ) -> None:
        """The sum before any features are added, as for `GramSum`, but N is at least four."""
        if images < _LEAST_UNBIASED:
            raise NumericsError(f"the unbiased estimate needs at least four images, not {images}")
        super().__init__(images, device, dtype)

    def _end_centring(self) -> None:
        # The sum of a row of C = HKH is zero, and without its diagonal -cᵢ. U-centring of C, which
        # is U-centring of K, adds (cᵢ + cⱼ) / (N - 2) - Σ c / ((N - 1)(N - 2)).
        diagonal = self._gram.diagonal() / (self._images - 2)
        self._gram += diagonal[:, None] + (diagonal - diagonal.sum() / (self._images - 1))
        self._gram.fill_diagonal_(0)


def equal_gram_weight(weight: Tensor) -> Tensor:
    """Weights with fewer outputs that give the same Gram matrix, up to its centring.

    If W has more outputs than inputs, W = QR with orthonormal columns of Q, and
    ⟨Wa, Wb⟩ = ⟨Ra, Rb⟩ for all a, b. The bias is the same for all images and has no effect. Takes
    W, (outputs, inputs), of a linear map or of a 1×1 convolution. Returns R, (inputs, inputs); W
    itself if it does not have more outputs than inputs.
    """
    if weight.shape[0] <= weight.shape[1]:
        return weight
    return cast(Tensor, torch.linalg.qr(weight, mode="r").R)


def alignment(first: Tensor, second: Tensor) -> Tensor:
    """Linear CKA between all layers of two networks, by one matrix product.

    Entry (i, j) compares layer i of the first with layer j of the second. The matrix is symmetric
    only if a network is compared with itself; alignment(a, b) is alignment(b, a).T. Both are rows
    (layers, N²) from `GramSum.normalised` of the same images. Entries are up to rounding in [0, 1],
    or in [-1, 1] if unbiased; NaN where a layer is undefined.

    Raises:
        NumericsError: The two have different numbers of images.
    """
    if first.shape[1] != second.shape[1]:
        raise NumericsError("the Gram matrices are of different numbers of images")
    with full_precision(first.device):
        return first @ second.T


def undefined_layers(rows: Tensor) -> list[int]:
    """Indices of the undefined layers among rows from `GramSum.normalised`."""
    return [int(index) for index in rows[:, 0].isnan().nonzero().flatten()]


def _spans(images: int, blocks: int) -> tuple[tuple[int, int], ...]:
    """The images as `blocks` ranges of nearly equal length."""
    if images < 2:
        raise NumericsError(f"centring needs at least two images, not {images}")
    if not 2 <= blocks <= images:
        raise NumericsError(f"{images} images make 2 to {images} blocks, not {blocks}")
    edges = [round(images * block / blocks) for block in range(blocks + 1)]
    return tuple(pairwise(edges))


def _flat(features: Tensor) -> Tensor:
    """(images, features) without a copy: the order of features does not matter."""
    if features.dim() == 4 and not features.is_contiguous():
        features = features.permute(0, 2, 3, 1)
    return features.flatten(start_dim=1)
