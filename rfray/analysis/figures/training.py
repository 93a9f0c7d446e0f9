"""Figure of the course of training: loss and accuracy by epoch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from rfray.analysis.artifacts import ArtifactError, Floats
from rfray.analysis.figures.panels import Drawing, Panel, missing_lines
from rfray.analysis.figures.style import (
    WIDTH,
    chance_line,
    colour,
    headed,
    look,
    say_absent,
    shortened,
)
from rfray.analysis.values import is_finite

if TYPE_CHECKING:
    from rfray.tracking import Ledger, RunRecord

_SHOWN: Mapping[str, str] = {"train_loss": "training loss", "test_accuracy": "test accuracy (%)"}
_KEPT = "kept_epoch"
"""Logged one step behind the last epoch, with the accuracy of the weights that were kept."""


@dataclass(frozen=True)
class Curve:
    """A metric by epoch: epochs as logged, (E,), and values, (E,), NaN where one is no number."""

    epochs: Floats
    values: Floats


def curves_reader(
    ledger: Ledger, records: Sequence[RunRecord]
) -> Callable[[RunRecord], dict[str, Curve]]:
    """The reader of the curves of some training runs; ArtifactError where one logged none."""
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


def draw_training(title: str, drawing: Drawing[dict[str, Curve]]) -> Figure:
    """Training loss and test accuracy by epoch: one colour a receptive field, one line a seed."""
    with look():
        figure = Figure(figsize=(WIDTH, 6.0))
        figure.set_layout_engine("constrained")
        headed(figure, title)
        for axes, metric in zip(figure.subplots(len(_SHOWN), 1), _SHOWN, strict=True):
            _panel(axes, metric, drawing.panels)
            chance_line(axes, drawing.chance if metric.endswith("accuracy") else None)
        remarks = [*missing_lines(drawing.panels), *_odd_values(drawing.panels)]
        handles = [
            Line2D([], [], color=colour(panel.kernel_size), label=panel.label)
            for panel in drawing.panels
            if panel.contents
        ]
        if handles:
            figure.legend(
                handles=handles,
                loc="outside lower center",
                ncols=2,
                title=shortened(remarks),
                title_fontsize=7.5,
            )
    return figure


def _curve(history: Sequence[tuple[int, float]], kept: set[int]) -> Curve:
    epochs = [(step, value) for step, value in history if step not in kept]
    return Curve(
        epochs=np.array([step for step, _ in epochs], dtype=np.float64),
        values=np.array([v if is_finite(v) else np.nan for _, v in epochs], dtype=np.float64),
    )


def _panel(axes: Axes, metric: str, panels: Sequence[Panel[dict[str, Curve]]]) -> None:
    drawn = [
        (panel, curves[metric]) for panel in panels for curves in panel.contents if metric in curves
    ]
    if not drawn:
        say_absent(axes, [gap.reason for panel in panels for gap in panel.gaps] or ["not logged"])
        return
    for panel, curve in drawn:
        # A run of one epoch is a point, which a line alone would not show.
        dot = "o" if len(curve.epochs) == 1 else None
        ink = colour(panel.kernel_size)
        axes.plot(curve.epochs, curve.values, color=ink, lw=1.1, alpha=0.8, marker=dot, ms=4)
    values = np.concatenate([curve.values for _, curve in drawn])
    finite = values[np.isfinite(values)]
    if metric.endswith("loss") and finite.size and finite.min() > 0:
        axes.set_yscale("log" if finite.max() > 10 * finite.min() else "linear")
    axes.set_xlabel("epoch")
    axes.set_ylabel(_SHOWN[metric])
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def _odd_values(panels: Sequence[Panel[dict[str, Curve]]]) -> list[str]:
    curves = [curve for p in panels for content in p.contents for curve in content.values()]
    odd = sum(int(np.isnan(curve.values).sum()) for curve in curves)
    return [f"{odd} value{'s are' if odd > 1 else ' is'} no number"] if odd else []
