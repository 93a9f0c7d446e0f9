"""Figures of accuracy: against the pruning rate, and dense against fine-tuned."""

from __future__ import annotations

import math
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from rfray.analysis.figures.panels import Drawing, Panel, missing_lines
from rfray.analysis.figures.style import (
    WIDTH,
    chance_line,
    colour,
    headed,
    look,
    marker,
    note,
    say_absent,
)
from rfray.analysis.statistics import summarize
from rfray.analysis.values import show

_GREY = "#666666"


def draw_pruning(title: str, dense: Drawing[float], pruned: Drawing[float]) -> Figure:
    """Test accuracy against pruning rate: one line a receptive field.

    Error bars are ± one standard deviation over the seeds; rate 0 is the dense network.
    """
    panels = [*dense.panels, *pruned.panels]
    with look():
        figure = Figure(figsize=(WIDTH, 4.6))
        figure.set_layout_engine("constrained")
        headed(figure, title)
        axes = figure.subplots()
        if not any(panel.contents for panel in panels):
            say_absent(axes, [gap.reason for panel in panels for gap in panel.gaps])
            return figure
        handles = [
            _rate_line(axes, [panel for panel in panels if panel.kernel_size == size])
            for size in sorted({panel.kernel_size for panel in panels if panel.contents})
        ]
        axes.set_xlabel("pruning rate, 0 for the dense network")
        axes.set_ylabel("test accuracy (%), mean ± standard deviation")
        axes.set_xticks(sorted({_rate(panel) for panel in panels}))
        chance_line(axes, pruned.chance)
        _legend(figure, handles, panels)
    return figure


def draw_finetuning(title: str, dense: Drawing[float], tuned: Drawing[float]) -> Figure:
    """Test accuracy dense and fine-tuned against the receptive field: one panel a pruning rate.

    Error bars are ± one standard deviation over the seeds.
    """
    rates = sorted({_rate(panel) for panel in tuned.panels})
    sizes = sorted({panel.kernel_size for panel in (*dense.panels, *tuned.panels)})
    with look():
        columns = min(2, len(rates))
        rows = -(-len(rates) // columns)
        figure = Figure(figsize=(WIDTH, 2.3 * rows + 1.0))
        figure.set_layout_engine("constrained")
        headed(figure, title)
        grid = figure.subplots(rows, columns, sharey=True, squeeze=False)
        for axes, rate in zip(grid.ravel(), rates, strict=False):
            mine = [panel for panel in tuned.panels if _rate(panel) == rate]
            axes.set_title(f"pruned at {show(rate)}")
            _dense_and_tuned(axes, sizes, dense.panels, mine)
            chance_line(axes, tuned.chance)
        for axes in grid.ravel()[len(rates) :]:
            axes.set_axis_off()
        for axes in grid[:, 0]:
            axes.set_ylabel("test accuracy (%)")
        _legend(figure, _fillings(), [*dense.panels, *tuned.panels])
    return figure


def _rate(panel: Panel[float]) -> float:
    return 0.0 if panel.parameter is None else float(panel.parameter)


def _rate_line(axes: Axes, panels: Sequence[Panel[float]]) -> Line2D:
    ordered = sorted((panel for panel in panels if panel.contents), key=_rate)
    means, deviations = _means_and_deviations(ordered)
    size = ordered[0].kernel_size
    axes.errorbar(
        [_rate(panel) for panel in ordered],
        means,
        yerr=deviations,
        color=colour(size),
        marker=marker(size),
        ms=4.5,
        lw=1.3,
        capsize=2.5,
    )
    return Line2D([], [], color=colour(size), marker=marker(size), label=ordered[0].label)


def _dense_and_tuned(
    axes: Axes,
    sizes: Sequence[int],
    dense: Sequence[Panel[float]],
    tuned: Sequence[Panel[float]],
) -> None:
    places = {size: place for place, size in enumerate(sizes)}
    fields = {panel.kernel_size: panel.receptive_field for panel in (*dense, *tuned)}
    for panels, shift, filled in ((dense, -0.12, False), (tuned, 0.12, True)):
        for panel in (panel for panel in panels if panel.contents):
            ((mean,), (deviation,)) = _means_and_deviations([panel])
            ink = colour(panel.kernel_size)
            axes.errorbar(
                [places[panel.kernel_size] + shift],
                [mean],
                yerr=[deviation],
                color=ink,
                marker=marker(panel.kernel_size),
                mfc=ink if filled else "white",
                ms=5.5,
                capsize=2.5,
            )
    names = [f"k = {size}" if fields[size] is None else str(fields[size]) for size in sizes]
    axes.set_xticks(range(len(sizes)), names)
    axes.set_xlabel("receptive field (pixels)")
    axes.set_xlim(-0.6, len(sizes) - 0.4)
    if not any(panel.contents for panel in tuned):
        note(axes, [gap.reason for panel in tuned for gap in panel.gaps][:1])


def _means_and_deviations(panels: Sequence[Panel[float]]) -> tuple[list[float], list[float]]:
    """Means and standard deviations; a single value has no deviation, hence no bar."""
    summaries = [summarize(panel.contents) for panel in panels]
    deviations = [0.0 if math.isnan(s.std) else s.std for s in summaries]
    return [s.mean for s in summaries], deviations


def _fillings() -> list[Line2D]:
    return [
        Line2D([], [], color=_GREY, ls="", marker="o", mfc=fill, label=label)
        for fill, label in (("white", "dense"), (_GREY, "pruned and fine-tuned"))
    ]


def _legend(figure: Figure, handles: list[Line2D], panels: Sequence[Panel[float]]) -> None:
    """The legend, under a line that counts the points that lack seeds."""
    lacking = len(missing_lines(panels))
    title = f"Incomplete: {lacking} of {len(panels)} points lack seeds" if lacking else None
    figure.legend(
        handles=handles, loc="outside lower center", ncols=2, title=title, title_fontsize=7.5
    )
