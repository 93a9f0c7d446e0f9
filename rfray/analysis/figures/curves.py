"""Figures of loss and accuracy: by epoch of training, and on the lines between two seeds."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, FigureBase
from matplotlib.ticker import MaxNLocator

from rfray.analysis.artifacts import ArtifactError, Floats, Paths
from rfray.analysis.figures import style
from rfray.analysis.figures.panels import Drawing, Panel, missing_lines, panels_of, reasons
from rfray.analysis.figures.parts import Legend, composed, keys
from rfray.analysis.values import is_finite

if TYPE_CHECKING:
    from rfray.tracking import Ledger, RunRecord

_BY_EPOCH = {"train_loss": "training loss", "test_accuracy": "test accuracy (%)"}
_BETWEEN_SEEDS = {"loss": "test loss", "accuracy": "test accuracy (%)"}
_KEPT = "kept_epoch"
"""Logged one step after the last epoch, together with the accuracy of the weights that are kept."""


@dataclass(frozen=True)
class Curve:
    """A metric by epoch: epochs as logged, (E,), and values, (E,), NaN if one is not finite."""

    epochs: Floats
    values: Floats


_Curves = dict[str, Curve]
"""The curves of one run by metric."""


def curves_reader(
    ledger: Ledger, records: Sequence[RunRecord]
) -> Callable[[RunRecord], dict[str, Curve]]:
    """Makes the function that reads the curves of a training run; ArtifactError if it has none."""
    histories = {
        metric: ledger.metric_histories([r.run_id for r in records if metric in r.metrics], metric)
        for metric in (*_BY_EPOCH, _KEPT)
    }

    def read(record: RunRecord) -> dict[str, Curve]:
        logged = [metric for metric in _BY_EPOCH if metric in record.metrics]
        if not logged:
            raise ArtifactError(f"has no metric {' or '.join(_BY_EPOCH)}")
        kept = {step for step, _ in histories[_KEPT].get(record.run_id, ())}
        return {metric: _curve(histories[metric][record.run_id], kept) for metric in logged}

    return read


def draw_training(title: str, *drawings: Drawing[_Curves]) -> Figure:
    """Training loss and test accuracy by epoch: a colour for each receptive field.

    Each line is one seed. Several drawings are rows with common axes, each under its heading.
    """
    panels = panels_of(drawings)
    alone = len(drawings) == 1
    there = any(panel.contents for panel in panels)
    absent = style.say_why if there and not alone else style.say_absent

    def grid(figure: FigureBase) -> Legend:
        places = (
            figure.subplots(len(_BY_EPOCH), 1, squeeze=False).T  # one metric below the other
            if alone
            else _beside(figure, drawings, _BY_EPOCH.values(), "epoch")
        )
        for column, metric in zip(places.T, _BY_EPOCH, strict=True):
            scale = _scale(metric, panels)
            for axes, drawing in zip(column, drawings, strict=True):
                _by_epoch(axes, metric, drawing.panels, scale, absent)
                style.chance_line(axes, drawing.chance if metric.endswith("accuracy") else None)
            for inner in column[:-1]:
                inner.set_xlabel("")
        if alone:
            return Legend(keys(panels), [*missing_lines(panels), *_odd_values(panels)])
        for axes, drawing in zip(places[:, 0], drawings, strict=True):
            if any(panel.contents for panel in drawing.panels):
                style.note(axes, [*missing_lines(drawing.panels), *_odd_values(drawing.panels)])
        return Legend(keys(panels))

    height = 6.0 if alone else 1.9 * len(drawings) + 1.2
    return composed(title, (style.WIDTH, height), {"": grid})


def draw_barriers(title: str, *drawings: Drawing[Paths]) -> Figure:
    """Test loss and accuracy by position: one colour for each receptive field.

    A thin line is one pair of seeds, the thick line the mean over pairs. Several drawings are rows
    with common axes, each under its heading.
    """

    def rows(figure: FigureBase) -> Legend:
        position = "position, first seed to second"
        places = _beside(figure, drawings, _BETWEEN_SEEDS.values(), position)
        for row, drawing in zip(places, drawings, strict=True):
            for axes, quantity in zip(row, _BETWEEN_SEEDS, strict=True):
                _between_seeds(axes, quantity, drawing.panels)
            style.chance_line(row[1], drawing.chance)
        panels = panels_of(drawings)
        return Legend(keys(panels), missing_lines(panels))

    return composed(title, (style.WIDTH, 2.4 * len(drawings) + 1.2), {"": rows})


def _beside(
    figure: FigureBase, drawings: Sequence[Drawing[Any]], quantities: Iterable[str], place: str
) -> Any:
    """Axes of several drawings, (drawings, quantities): a quantity has the same scale in all."""
    names = list(quantities)
    places = figure.subplots(len(drawings), len(names), sharex=True, sharey="col", squeeze=False)
    for row, drawing in zip(places, drawings, strict=True):
        for axes, name in zip(row, names, strict=True):
            style.entitle(axes, drawing.heading)
            axes.set_ylabel(name)
    for lowest in places[-1]:
        lowest.set_xlabel(place)
    return places


def _curve(history: Sequence[tuple[int, float]], kept: set[int]) -> Curve:
    epochs = [(step, value) for step, value in history if step not in kept]
    return Curve(
        epochs=np.array([step for step, _ in epochs], dtype=np.float64),
        values=np.array([v if is_finite(v) else np.nan for _, v in epochs], dtype=np.float64),
    )


def _drawn(metric: str, panels: Sequence[Panel[_Curves]]) -> list[tuple[Panel[_Curves], Curve]]:
    return [
        (panel, curves[metric]) for panel in panels for curves in panel.contents if metric in curves
    ]


def _scale(metric: str, panels: Sequence[Panel[_Curves]]) -> str:
    """`log` for a loss that falls by more than a decade."""
    values = [curve.values[np.isfinite(curve.values)] for _, curve in _drawn(metric, panels)]
    finite = np.concatenate([np.zeros(0), *values])
    if metric.endswith("loss") and finite.size and finite.min() > 0:
        return "log" if finite.max() > 10 * finite.min() else "linear"
    return "linear"


def _by_epoch(
    axes: Axes,
    metric: str,
    panels: Sequence[Panel[_Curves]],
    scale: str,
    absent: Callable[[Axes, Iterable[str]], None],
) -> None:
    drawn = _drawn(metric, panels)
    if not drawn:
        absent(axes, reasons(panels) or ["not logged"])
        return
    for panel, curve in drawn:
        # A run of one epoch is a single point, which a line does not show.
        dot = "o" if len(curve.epochs) == 1 else None
        ink = style.colour(panel.kernel_size)
        axes.plot(curve.epochs, curve.values, color=ink, lw=1.1, alpha=0.8, marker=dot, ms=4)
    axes.set_yscale(scale)
    axes.set_xlabel("epoch")
    axes.set_ylabel(_BY_EPOCH[metric])
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def _odd_values(panels: Sequence[Panel[_Curves]]) -> list[str]:
    curves = [curve for p in panels for content in p.contents for curve in content.values()]
    odd = sum(int(np.isnan(curve.values).sum()) for curve in curves)
    return [f"{odd} value{'s are' if odd > 1 else ' is'} not a number"] if odd else []


def _between_seeds(axes: Axes, quantity: str, panels: Sequence[Panel[Paths]]) -> None:
    if not any(panel.contents for panel in panels):
        style.say_why(axes, reasons(panels))
        return
    for panel in panels:
        ink = style.colour(panel.kernel_size)
        for paths in panel.contents:
            values = getattr(paths, quantity)
            axes.plot(paths.alphas, values.T, color=ink, lw=0.5, alpha=0.4)
            axes.plot(paths.alphas, values.mean(axis=0), color=ink, lw=1.5)
