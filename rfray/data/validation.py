"""Which training images a study holds out for validation: the same ones for every cell."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from rfray.data.amount import Amount, images_held_out
from rfray.data.dataset import DatasetFacts
from rfray.errors import UserError
from rfray.seeding import stream_seed

if TYPE_CHECKING:
    from torch import Tensor

_SEED = 0  # the same for all cells: they are validated on the same images


def with_validation(facts: DatasetFacts, amount: Amount | None) -> DatasetFacts:
    """The facts of a data set with an amount of its training images held out; None: none is.

    Mean and deviation stay those of all its training pixels.

    Raises:
        UserError: The amount does not allow an image of each class in both parts.
    """
    if amount is None:
        return facts
    count, most = images_held_out(amount, facts.train_images), facts.train_images - facts.classes
    if not facts.classes <= count <= most:
        raise UserError(
            f"of the {facts.train_images:,} training images of {facts.name}, in {facts.classes:,} "
            f"classes, {count:,} cannot be held out",
            where="data.validation",
            do=f"hold out {facts.classes:,} to {most:,}, so that each class is in both parts",
        )
    return replace(
        facts,
        # `held_out` chooses the images: if it chose others, this would have to change.
        fingerprint=f"{facts.fingerprint}-validation{count}",
        train_images=facts.train_images - count,
        validation_images=count,
    )


def counts_by_class(available: Sequence[int], wanted: int) -> list[int]:
    """The number of images that each class gives, `wanted` in total, with equal shares.

    Shares are rounded by the largest remainders (Hamilton's method), but each class gives at least
    one image and keeps at least one; a class of one image keeps it.

    Args:
        available: Number of images of each class, 0 or more.
        wanted: At least the number of classes, and at most all images minus the number of classes.
    """
    import numpy as np

    images = np.array(available, dtype=np.int64)
    most = (images - 1).clip(min=0)
    least = most.clip(max=1)
    given = (wanted * images // images.sum()).clip(least, most)
    missing = wanted - int(given.sum())
    step, bounds = (1, most) if missing > 0 else (-1, least)
    for _ in range(abs(missing)):
        # The class whose count is farthest from its share, in units of 1/total.
        excess = step * (given * images.sum() - wanted * images)
        excess[given == bounds] = np.iinfo(np.int64).max
        given[excess.argmin()] += step
    counts: list[int] = given.tolist()
    return counts


def held_out(labels: Tensor, wanted: int) -> Tensor:
    """Which images are held out: `wanted` of them, with an equal share of each class.

    The choice within a class is random, but depends on `labels` and `wanted` only.

    Args:
        labels: int64 (images,) on the CPU.
        wanted: See `counts_by_class`.

    Returns:
        bool (images,).
    """
    import torch

    generator = torch.Generator().manual_seed(stream_seed(_SEED, "validation"))
    order = torch.randperm(len(labels), generator=generator)
    by_class = order[labels[order].argsort(stable=True)]
    available = labels.bincount()
    starts = available.cumsum(0) - available
    rank_in_class = torch.empty_like(order)
    rank_in_class[by_class] = torch.arange(len(labels)) - starts[labels[by_class]]
    counts = torch.tensor(counts_by_class(available.tolist(), wanted))
    return rank_in_class < counts[labels]
