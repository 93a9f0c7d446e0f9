"""The baseline of kernel alignment: layers whose images were shuffled in one of the two networks.

What they still have in common is no answer to the same image: it is what the estimator finds in
features of such sizes over so many images. On average over all permutations it is
tr(HKH) tr(HLH) / ((N - 1) ‖HKH‖ ‖HLH‖) of the biased estimate, and about 0 of the unbiased one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from rfray.numerics.kernel_alignment import strip_spans


@dataclass(frozen=True)
class Shuffle:
    """What images that change places do to a row from `GramSum.normalised`.

    Attributes:
        sources: (numbers,) int32, where each number of the new row stands in the old one.
        factors: (numbers,) float32, what it is multiplied by: 1, √2 or 1/√2.
    """

    sources: Tensor
    factors: Tensor

    def to(self, device: str | torch.device) -> Shuffle:
        """The same on a device."""
        return Shuffle(self.sources.to(device), self.factors.to(device))


def derangement(images: int, seed: int) -> Tensor:
    """A random cycle through all images, so that none keeps its place.

    Args:
        images: N, at least two.
        seed: The same seed gives the same cycle.

    Returns:
        (N,) int64, for each image another one.
    """
    order = torch.randperm(images, generator=torch.Generator().manual_seed(seed))
    others = torch.empty_like(order)
    others[order] = order.roll(1)
    return others


def shuffle(others: Tensor, blocks: int = 1) -> Shuffle:
    """The shuffle that puts image `others[i]` in the place of image i.

    Args:
        others: (N,) int64, a permutation of the images.
        blocks: As many as the rows were made with.
    """
    spans = strip_spans(len(others), blocks)
    strips = torch.cat([torch.full((stop - start,), n) for n, (start, stop) in enumerate(spans)])
    columns = _first_columns(spans)[:, None] + torch.arange(len(others))
    places = torch.where(strips[:, None] >= strips, columns, columns.T)
    factors = torch.where(strips[:, None] == strips, 1.0, math.sqrt(2))
    return Shuffle(
        _packed(places[others][:, others], spans).int(),
        _packed(factors / factors[others][:, others], spans),
    )


def shuffle_rows(rows: Tensor, shuffled: Shuffle) -> Tensor:
    """The rows of a network whose images were shuffled, in place: they may be most of the memory.

    Args:
        rows: (layers, numbers), from `GramSum.normalised`; overwritten.
        shuffled: Made with as many images and blocks, on the device of the rows.
    """
    for row in rows:
        row.copy_(row.index_select(0, shuffled.sources).mul_(shuffled.factors))
    return rows


def equal_layers_alignment(first: Tensor, second: Tensor) -> Tensor:
    """Linear CKA of each layer of a network with the same layer of another: `alignment`'s diagonal.

    Args:
        first: (layers, numbers), rows from `GramSum.normalised`.
        second: (layers, numbers), of the same layers, and as many images and blocks.

    Returns:
        (layers,); NaN where a layer of either is undefined.
    """
    return torch.stack([torch.dot(row, other) for row, other in zip(first, second, strict=True)])


def _first_columns(spans: Sequence[tuple[int, int]]) -> Tensor:
    """(N,) int64, where each image's row of the matrix begins in the packed one."""
    ends = torch.cat([torch.full((stop - start,), stop) for start, stop in spans])
    return ends.cumsum(0) - ends


def _packed(square: Tensor, spans: Sequence[tuple[int, int]]) -> Tensor:
    return torch.cat([square[start:stop, :stop].flatten() for start, stop in spans])
