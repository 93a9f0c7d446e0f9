"""Figure of training: loss and accuracy by epoch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, FigureBase
from matplotlib.ticker import MaxNLocator

from rfray.analysis.artifacts import ArtifactError, Floats
from rfray.analysis.figures.panels import Drawing, Panel, missing_lines, panels_of, reasons
from rfray.analysis.figures.parts import Legend, composed, keys
from rfray.analysis.figures.style import (
    WIDTH,
    chance_line,
    colour,
    entitle,
    note,
    say_absent,
    say_why,
)
from rfray.analysis.values import is_finite

if TYPE_CHECKING:
    from rfray.tracking import Ledger, RunRecord

_SHOWN: Mapping[str, str] = {"train_loss": "training loss", "test_accuracy": "test accuracy (%)"}
_KEPT = "kept_epoch"
"""Logged one step after the last epoch, together with the accuracy of the weights that are kept."""


@dataclass(frozen=True)
class Curve:
    """A metric by epoch: epochs as logged, (E,), and values, (E,), NaN if one is not finite."""

    epochs: Floats
    values: Floats


def curves_reader(
    ledger: Ledger, records: Sequence[RunRecord]
) -> Callable[[RunRecord], dict[str, Curve]]:
    """Makes the function that reads the curves of a training run; ArtifactError if it has none."""
    histories = {
        metric: ledger.metric_histories([r.run_id for r in records if metric in r.metrics], metric)
        for metric in (*_SHOWN, _KEPT)
    }

    def read(record: RunRecord) -> dict[str, Curve]:
        logged = [metric for metric in _SHOWN if metric in record.metrics]
        if not logged:
            raise ArtifactError(f"has no metric {' or '.join(_SHOWN)}")
        kept = {step for step, _ in histories[_KEPT].get(record.run_id, ())}
        return {metric: _curve(histories[metric][record.run_id], kept) for metric in logged}

    return read


def draw_training(title: str, *drawings: Drawing[dict[str, Curve]]) -> Figure:
    """Training loss and test accuracy by epoch: a colour for each receptive field.

    Each line is one seed. Several drawings are rows with common axes, each under its heading.
    """
    panels = panels_of(drawings)
    alone = len(drawings) == 1
    absent = say_why if any(panel.contents for panel in panels) and not alone else say_absent

    def grid(figure: FigureBase) -> Legend:
        places = (
            figure.subplots(len(_SHOWN), 1, squeeze=False).T  # one metric below the other
            if alone
            else _metrics_beside(figure, drawings)
        )
        for column, metric in zip(places.T, _SHOWN, strict=True):
            scale = _scale(metric, panels)
            for axes, drawing in zip(column, drawings, strict=True):
                _panel(axes, metric, drawing.panels, scale, absent)
                chance_line(axes, drawing.chance if metric.endswith("accuracy") else None)
            for inner in column[:-1]:
                inner.set_xlabel("")
        if alone:
            return Legend(keys(panels), [*missing_lines(panels), *_odd_values(panels)])
        for axes, drawing in zip(places[:, 0], drawings, strict=True):
            if any(panel.contents for panel in drawing.panels):
                note(axes, [*missing_lines(drawing.panels), *_odd_values(drawing.panels)])
        return Legend(keys(panels))

    height = 6.0 if alone else 1.9 * len(drawings) + 1.2
    return composed(title, (WIDTH, height), {"": grid})


def _metrics_beside(figure: FigureBase, drawings: Sequence[Drawing[dict[str, Curve]]]) -> Any:
    """Axes of several drawings, (drawings, metrics): a metric has the same scale in all."""
    places = figure.subplots(len(drawings), len(_SHOWN), sharex=True, sharey="col", squeeze=False)
    for row, drawing in zip(places, drawings, strict=True):
        for axes, name in zip(row, _SHOWN.values(), strict=True):
            entitle(axes, drawing.heading)
            axes.set_ylabel(name)
    for lowest in places[-1]:
        lowest.set_xlabel("epoch")
    return places


def _curve(history: Sequence[tuple[int, float]], kept: set[int]) -> Curve:
    epochs = [(step, value) for step, value in history if step not in kept]
    return Curve(
        epochs=np.array([step for step, _ in epochs], dtype=np.float64),
        values=np.array([v if is_finite(v) else np.nan for _, v in epochs], dtype=np.float64),
    )


def _drawn(
    metric: str, panels: Sequence[Panel[dict[str, Curve]]]
) -> list[tuple[Panel[dict[str, Curve]], Curve]]:
    return [
        (panel, curves[metric]) for panel in panels for curves in panel.contents if metric in curves
    ]


def _scale(metric: str, panels: Sequence[Panel[dict[str, Curve]]]) -> str:
    """`log` for a loss that falls by more than a decade."""
    values = [curve.values[np.isfinite(curve.values)] for _, curve in _drawn(metric, panels)]
    finite = np.concatenate([np.zeros(0), *values])
    if metric.endswith("loss") and finite.size and finite.min() > 0:
        return "log" if finite.max() > 10 * finite.min() else "linear"
    return "linear"


def _panel(
    axes: Axes,
    metric: str,
    panels: Sequence[Panel[dict[str, Curve]]],
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
        ink = colour(panel.kernel_size)
        axes.plot(curve.epochs, curve.values, color=ink, lw=1.1, alpha=0.8, marker=dot, ms=4)
    axes.set_yscale(scale)
    axes.set_xlabel("epoch")
    axes.set_ylabel(_SHOWN[metric])
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def _odd_values(panels: Sequence[Panel[dict[str, Curve]]]) -> list[str]:
    curves = [curve for p in panels for content in p.contents for curve in content.values()]
    odd = sum(int(np.isnan(curve.values).sum()) for curve in curves)
    return [f"{odd} value{'s are' if odd > 1 else ' is'} not a number"] if odd else []
