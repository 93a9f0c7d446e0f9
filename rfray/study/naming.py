"""How runs are named: what tells the runs of one study apart, in as few words as that takes."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from rfray.cell import Cell
from rfray.models.knobs import POOL
from rfray.stages.stage import Scope, Variant

TRAIN = "train"
"""The stage whose runs are the study's networks: its settings are named with the network."""

SAMPLE = "sample"
"""The stage whose runs a search tries settings with."""

SEARCH = "search"
"""The stage that chooses settings of training among its samples."""

_TOLD = 3

OF_A_SEARCH = frozenset({SAMPLE, SEARCH})
"""What is planned where a study has a search."""


def scope_name(
    scope: Scope, cell: Cell, varying: Collection[str], settings: Mapping[str, Any]
) -> str:
    """What a run works on: `vgg19_rf-cifar10-k3-seed0-learning_rate=0.1`.

    Args:
        scope: Of its stage.
        cell: Its cell, or one of its group.
        varying: The settings that vary in the study.
        settings: The values of those that the run depends on and that are of a stage.
    """
    parts = [_plain(cell.arch)]
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
    """What a run is among those of its network: `train`, `prune-0.9`, `finetune-0.9-epochs=5`."""
    parts = [stage, *(str(value) for value in variant.values())]
    parts += _words({name: v for name, v in settings.items() if _stage(name) != TRAIN})
    return "-".join(parts)


def in_short(names: Sequence[str]) -> str:
    """Some names in a sentence: the first ones, and how many more there are."""
    more = len(names) - _TOLD
    return ", ".join(names[:_TOLD]) + (f" and {more} more" if more > 0 else "")


def shown(value: Any) -> str:
    """A setting's value in a name, as a sweep file writes it: `0.1`, `true`, `[10,20]`."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return f"[{','.join(map(shown, value))}]"
    return str(value)


def _plain(arch: str) -> str:
    """A network's name without what has a meaning in the names of files and of runs."""
    return arch.replace(":", ".").replace("/", ".").replace("\\", ".")


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
