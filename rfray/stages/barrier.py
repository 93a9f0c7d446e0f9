"""barrier: loss and accuracy on the straight line between networks that differ in the seed only."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from itertools import combinations
from math import inf, isfinite, nan, sqrt
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from rfray.cell import Cell
from rfray.parameters import Parameters
from rfray.stages.drawing import save_paths
from rfray.stages.stage import Input, Stage, StageContext
from rfray.terminal.telling import tell
from rfray.training.protocol import Count

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray
    from torch import Tensor

    from rfray.models.module import NetworkModule

    Measure = Callable[[NetworkModule], dict[str, float]]
    """Each of `MEASURED` of a network, whose batch norms it may change first."""

_PAIRS_A_NETWORK = 2
"""Pairs for each network, estimated for the plan: all pairs of five seeds."""

_ONE_SIDED = 1.645
"""Standard errors above chance that guessing exceeds in 5 of 100 cases."""

_NOTICEABLE = 2.0
"""Change of test accuracy at an end, in percentage points, above which there is a remark."""

OF_A_PAIR = ("loss_barrier", "accuracy_barrier")
"""Metrics of each pair, on the test images."""

MEASURED = ("train_loss", "train_accuracy", "test_loss", "test_accuracy")
"""What is measured at each position."""


class BarrierParameters(Parameters):
    """The straight line between the weights of two seeds, and the largest rise above its ends."""

    points: Annotated[int, Field(ge=3)] = Field(
        default=11, description="Number of equally spaced positions on the line, with both ends."
    )
    pairs: Literal["all"] | Count = Field(
        default="all",
        description="Number of pairs of seeds. Pairs of neighbouring seeds come first, so that "
        "every seed is in a pair; all if there are fewer.",
    )
    align: Literal["none", "weights"] = Field(
        default="none",
        description="weights: first permute the second network's channels so that its weights are "
        "nearest to those of the first (weight matching, Ainsworth et al. 2023). This does not "
        "change what it computes.",
    )
    batch_norm: Literal["estimate", "interpolate"] = Field(
        default="estimate",
        description="Running statistics on the line. estimate: at each position, the exact mean "
        "and variance over training images (Jordan et al. 2023). interpolate: interpolated, as the "
        "weights are.",
    )
    statistics_images: Annotated[int, Field(ge=2)] = Field(
        default=2000,
        description="For estimate: number of training images, the same in every run, not "
        "augmented; all if there are fewer.",
    )
    train_images: Count = Field(
        default=10_000,
        description="Number of training images on which loss and accuracy are measured, the same "
        "in every run; all if there are fewer. All test images are used.",
    )


def work(parameters: BarrierParameters, cell: Cell) -> float:
    """A pass over all images at each position of two lines for each network."""
    facts = cell.facts
    images = facts.test_images + min(parameters.train_images, facts.train_images)
    if parameters.batch_norm == "estimate" and cell.network.batch_norms:
        images += min(parameters.statistics_images, facts.train_images)
    wanted = parameters.pairs
    pairs = _PAIRS_A_NETWORK if wanted == "all" else min(wanted / 2, _PAIRS_A_NETWORK)
    return float(pairs * parameters.points * images * cell.geometry.multiplications)


def caution(parameters: BarrierParameters, cell: Cell) -> str | None:
    """Whether interpolated statistics of batch norms would cause a barrier."""
    if parameters.batch_norm == "interpolate" and cell.network.batch_norms:
        return (
            "interpolates the statistics of batch norms, which causes a barrier even where the "
            "weights have none (batch_norm: estimate does not)"
        )
    return None


def run(context: StageContext[BarrierParameters]) -> None:
    """Measure on the lines, report the barriers, write `barrier.csv` and `barrier.png`."""
    import numpy as np
    import pandas as pd

    from rfray.numerics.linear_path import positions

    started = time.perf_counter()
    sources = sorted(context.inputs, key=lambda source: source.cell.seed)
    pairs = _pairs(sources, context.parameters.pairs)
    measure, alphas = _measure_of(context), positions(context.parameters.points)
    frames, barriers = [], []
    for number, (first, second) in enumerate(pairs):
        name = f"seeds {first.cell.seed} and {second.cell.seed}, pair {number + 1} of {len(pairs)}"
        frames.append(pd.DataFrame(list(_path(context, first, second, measure, alphas, name))))
        barriers.append(_barriers(alphas, frames[number]))
        if isfinite(barriers[number]["loss_barrier"]):
            context.report(number, {name: barriers[number][name] for name in OF_A_PAIR})
    frame = pd.concat(frames, ignore_index=True)
    frame.to_csv(context.workspace / "barrier.csv", index=False)
    _report(context, pd.DataFrame(barriers), frame)
    for sentence in doubts(sources, frame):
        context.remark(sentence)
    shape = (len(pairs), len(alphas))
    curves = {name: np.reshape(frame[name].to_numpy(), shape) for name in MEASURED}
    align = context.parameters.align
    title = context.title(*([] if align == "none" else [f"channels aligned by {align}"]))
    save_paths(context.workspace / "barrier.png", title, alphas, curves)
    context.report(0, {"wall_seconds": time.perf_counter() - started})


def _pairs(sources: Sequence[Input], wanted: int | str) -> list[tuple[Input, Input]]:
    """The wanted number of pairs, nearest seeds first, in the order of seeds."""
    places = combinations(range(len(sources)), 2)
    nearest = sorted(places, key=lambda pair: (pair[1] - pair[0], pair[0]))
    if wanted != "all":
        nearest = nearest[: int(wanted)]
    return [(sources[one], sources[other]) for one, other in sorted(nearest)]


def _measure_of(context: StageContext[BarrierParameters]) -> Measure:
    from rfray.data.device import normalised, resident
    from rfray.data.subset import chosen_images
    from rfray.training.batch_norms import renew_statistics
    from rfray.training.evaluate import evaluate

    cell, parameters = context.cell, context.parameters
    dataset = resident(cell.dataset, context.device, cell.validation)
    facts, train = dataset.facts, chosen_images(dataset.train, parameters.train_images)
    statistics: Tensor | None = None
    if parameters.batch_norm == "estimate" and cell.network.batch_norms:
        chosen = chosen_images(dataset.train, parameters.statistics_images)
        statistics = normalised(chosen.images, facts)

    def measure(module: NetworkModule) -> dict[str, float]:
        if statistics is not None:
            renew_statistics(module, statistics)
        found = [evaluate(module, split, facts) for split in (train, dataset.test)]
        values = [value for one in found for value in (one.loss, one.accuracy)]
        return dict(zip(MEASURED, values, strict=True))

    return measure


def _path(
    context: StageContext[BarrierParameters],
    first: Input,
    second: Input,
    measure: Measure,
    alphas: NDArray[np.float64],
    pair: str,
) -> Iterator[dict[str, float]]:
    """A row of `barrier.csv` for each position between two networks; `pair` names them."""
    from rfray.numerics.linear_path import interpolated
    from rfray.training.alignment import aligned
    from rfray.training.weights import load_network_at, state_at

    module = load_network_at(first.cell, first.folder, "trained", context.device)
    one, other = (
        {name: tensor.to(context.device) for name, tensor in weights.items()}
        for weights in (state_at(end.cell, end.folder, "trained") for end in (first, second))
    )
    if context.parameters.align == "weights":
        tell(f"matching channels: {pair}")
        other = aligned(module, context.cell.facts.image_size, one, other)
    for point, alpha in enumerate(alphas.tolist()):
        tell(f"point {point + 1} of {len(alphas)}: {pair}")
        module.load_state_dict(interpolated(one, other, alpha))
        place = {"first": first.cell.seed, "second": second.cell.seed}
        yield {**place, "point": point, "alpha": alpha, **measure(module)}


def _barriers(alphas: NDArray[np.float64], path: pd.DataFrame) -> dict[str, float]:
    """The barriers of one line, by metric; NaN if a loss on it is not finite."""
    from rfray.numerics.linear_path import barrier

    def of(values: NDArray[np.float64]) -> float:
        return float(barrier(alphas, values))

    return {
        "loss_barrier": of(path["test_loss"].to_numpy()),
        "accuracy_barrier": of(-path["test_accuracy"].to_numpy()),
        "train_loss_barrier": of(path["train_loss"].to_numpy()),
        "train_accuracy_barrier": of(-path["train_accuracy"].to_numpy()),
    }


def _report(
    context: StageContext[BarrierParameters], barriers: pd.DataFrame, frame: pd.DataFrame
) -> None:
    """Report means and deviations over pairs, and the mean loss and accuracy by position."""
    defined = barriers.dropna()
    summary: dict[str, float] = {"undefined_pairs": len(barriers) - len(defined)}
    if len(defined):
        summary |= {f"{name}_mean": float(defined[name].mean()) for name in defined}
    if len(defined) > 1:
        summary |= {f"{name}_std": float(defined[name].std(ddof=1)) for name in defined}
    context.report(0, summary)
    if len(defined) < len(barriers):
        context.remark(
            f"{len(barriers) - len(defined)} of {len(barriers)} pairs have no barrier: the loss is "
            "not finite somewhere on their line."
        )
    measured = frame.replace([inf, -inf], nan).groupby("point")[list(MEASURED)].mean()
    for point, row in measured.dropna().iterrows():
        context.report(int(str(point)), {f"path_{name}": float(row[name]) for name in MEASURED})


def doubts(sources: Sequence[Input], frame: pd.DataFrame) -> list[str]:
    """Reasons why a barrier may not mean what it seems to, in sentences.

    `sources` are the training runs, and `frame` is the table in `barrier.csv`.
    """
    sentences = []
    ends = {source.cell.seed: _at_its_end(frame, source.cell.seed) for source in sources}
    moved = [
        f"seed {source.cell.seed} from {before:.1f} to {ends[source.cell.seed]:.1f}"
        for source in sources
        if (before := source.metrics.get("test_accuracy")) is not None
        and abs(ends[source.cell.seed] - before) > _NOTICEABLE
    ]
    if moved:
        sentences.append(
            "The estimated batch-norm statistics change the test accuracy (%) of the ends: "
            f"{', '.join(moved)}. The barrier is between the changed networks."
        )
    facts = sources[0].cell.facts
    chance = 1 / facts.classes
    above = 100 * (chance + _ONE_SIDED * sqrt(chance * (1 - chance) / facts.test_images))
    guessing = [str(seed) for seed, accuracy in ends.items() if accuracy <= above]
    if guessing:
        sentences.append(
            f"At chance level: seed {', '.join(guessing)}. Between such networks there is no "
            "accuracy to lose, so a missing barrier means little."
        )
    return sentences


def _at_its_end(frame: pd.DataFrame, seed: int) -> float:
    """Test accuracy of a network at its end of a line; NaN if it is on no line."""
    last = frame["point"].max()
    first = frame[(frame["first"] == seed) & (frame["point"] == 0)]
    second = frame[(frame["second"] == seed) & (frame["point"] == last)]
    accuracies = [*first["test_accuracy"], *second["test_accuracy"]]
    return float(accuracies[0]) if accuracies else nan


STAGE = Stage(
    name="barrier",
    version=1,
    parameters=BarrierParameters,
    scope="seeds",
    reads=("train",),
    run=run,
    work=work,
    summary="the barrier on the line between its seeds",
    headline="loss_barrier_mean",
    caution=caution,
)
