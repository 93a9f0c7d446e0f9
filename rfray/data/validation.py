"""Which training images a study holds out for validation: the same ones for every cell."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from rfray.data.amount import Amount, images_held_out
from rfray.data.dataset import DatasetFacts
from rfray.errors import UserError
from rfray.seeding import stream_seed

if TYPE_CHECKING:
    from torch import Tensor

_SEED = 0  # no cell's: whatever is trained on a data set is validated on the same images


def with_validation(facts: DatasetFacts, amount: Amount | None) -> DatasetFacts:
    """Facts of a data set of whose training images an amount is held out; None holds out none.

    Mean and deviation stay those of all its training pixels.

    Raises:
        UserError: There would not be an image for each class, or none of a class would be left.
    """
    if amount is None:
        return facts
    count, most = images_held_out(amount, facts.train_images), facts.train_images - facts.classes
    if not facts.classes <= count <= most:
        raise UserError(
            f"of the {facts.train_images:,} training images of {facts.name}, in {facts.classes:,} "
            f"classes, {count:,} cannot be held out",
            where="data.validation",
            do=f"hold out {facts.classes:,} to {most:,}, so that each class is on both sides",
        )
    return replace(
        facts,
        # Which images these are `held_out` says: should it choose others, this must change too.
        fingerprint=f"{facts.fingerprint}-validation{count}",
        train_images=facts.train_images - count,
        validation_images=count,
    )


def counts_by_class(available: Sequence[int], wanted: int) -> list[int]:
    """How many images of each class make `wanted`, each class giving the same share.

    Shares are rounded by the largest remainders (Hamilton's method), but each class gives one at
    the least and keeps one at the least; a class of one image keeps it.

    Args:
        available: Images of each class, 0 and more.
        wanted: From the number of classes to that of all images less the number of classes.
    """
    total = sum(available)
    least = [min(1, max(0, count - 1)) for count in available]
    most = [max(0, count - 1) for count in available]
    given = [
        min(max(wanted * count // total, low), high)
        for count, low, high in zip(available, least, most, strict=True)
    ]
    missing = wanted - sum(given)
    step, bounds = (1, most) if missing > 0 else (-1, least)

    def urgency(place: int) -> int:
        """Lowest for the class whose count lies farthest from its share, in units of 1/total."""
        return step * (given[place] * total - wanted * available[place])

    waiting = [
        (urgency(place), place) for place in range(len(given)) if given[place] != bounds[place]
    ]
    heapq.heapify(waiting)
    for _ in range(abs(missing)):
        _, place = heapq.heappop(waiting)
        given[place] += step
        if given[place] != bounds[place]:
            heapq.heappush(waiting, (urgency(place), place))
    return given


def held_out(labels: Tensor, wanted: int) -> Tensor:
    """Which images are held out, `wanted` of them, class by class in equal shares.

    Within a class the choice is random, but a function of `labels` and `wanted` alone.

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
