"""The names of runs: as short as possible, and different for each run of a study."""

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from rfray.cell import Cell
from rfray.models.knobs import POOL
from rfray.stages.stage import Scope, Variant

TRAIN = "train"
"""The stage that trains the study's networks. Its settings are part of the network's name."""

SAMPLE = "sample"
"""The stage whose runs are the samples of a search."""

SEARCH = "search"
"""The stage that chooses the training settings of the best sample."""

_NAMED = 3

OF_A_SEARCH = frozenset({SAMPLE, SEARCH})
"""The stages of a search."""


def scope_name(
    scope: Scope, cell: Cell, varying: Collection[str], settings: Mapping[str, Any]
) -> str:
    """The first part of a run's name: `vgg19_rf-cifar10-k3-seed0-learning_rate=0.1`.

    Args:
        scope: The scope of the run's stage.
        cell: The run's cell, or one cell of its group.
        varying: The settings that vary in the study.
        settings: The values of the stage settings that vary and that the run depends on.
    """
    # These characters have a meaning in names of files and runs.
    parts = [re.sub(r"[:/\\]", ".", cell.arch)]
    if scope != "network":
        parts.append(cell.dataset)
    knob, strength = cell.turned
    parts.append(f"k{strength}" if knob == POOL else f"{knob}{strength}")
    if scope == "cell":
        parts.append(f"seed{cell.seed}")
    if "width" in varying:
        parts.append(f"width{cell.width}")
    parts += _words({name: v for name, v in settings.items() if _stage(name) == TRAIN})
    return "-".join(parts)


def stage_label(stage: str, variant: Variant, settings: Mapping[str, Any]) -> str:
    """The last part of a run's name: `train`, `prune-0.9`, `finetune-0.9-epochs=5`."""
    parts = [stage, *(str(value) for value in variant.values())]
    parts += _words({name: v for name, v in settings.items() if _stage(name) != TRAIN})
    return "-".join(parts)


def in_short(names: Sequence[str]) -> str:
    """The first names, and the number of the others: `a, b, c and 4 more`."""
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")


def shown(value: Any) -> str:
    """A setting's value as a sweep file writes it: `0.1`, `true`, `[10,20]`."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return f"[{','.join(map(shown, value))}]"
    return str(value)


def _words(settings: Mapping[str, Any]) -> list[str]:
    leaves = [_leaf(name) for name in settings]
    return [
        f"{_leaf(name) if leaves.count(_leaf(name)) == 1 else name}={shown(value)}"
        for name, value in settings.items()
    ]


def _stage(name: str) -> str:
    return name.partition(".")[0]


def _leaf(name: str) -> str:
    return name.rpartition(".")[2]
