"""The baseline of kernel alignment: layers whose images are shuffled in one of the two networks.

Shuffled networks see different images, so the baseline shows only the bias of the estimator for
features of these sizes and this number of images. Its mean over all permutations is
tr(HKH) tr(HLH) / ((N - 1) ‖HKH‖ ‖HLH‖) for the biased estimate, and about 0 for the unbiased one.
"""

import torch
from torch import Tensor


def derangement(images: int, seed: int) -> Tensor:
    """A random cycle through all N ≥ 2 images: for each image a different one, (N,) int64."""
    order = torch.randperm(images, generator=torch.Generator().manual_seed(seed))
    others = torch.empty_like(order)
    others[order] = order.roll(1)
    return others


def shuffle_rows(rows: Tensor, others: Tensor) -> Tensor:
    """The rows of a network with its images shuffled; in place, because rows need much memory.

    The rows are (layers, N²), from `GramSum.normalised`. Image `others[i]` replaces image i.
    """
    for row in rows:
        square = row.view(len(others), len(others))
        square.copy_(square[others][:, others])
    return rows


def equal_layers_alignment(first: Tensor, second: Tensor) -> Tensor:
    """Linear CKA of each layer of a network with the same layer of another: `alignment`'s diagonal.

    Takes rows (layers, N²), returns (layers,); NaN where a layer of one of them is undefined.
    """
    return torch.stack([torch.dot(row, other) for row, other in zip(first, second, strict=True)])
