"""The params of a run that describe its network or networks. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rfray.cell import Cell
from rfray.plan.layout import Layout
from rfray.plan.turning import turning_params
from rfray.plan.unread import geometry_if_read
from rfray.stages.stage import Stage


def scope_params(layout: Layout, stage: Stage[Any], cells: Sequence[Cell]) -> dict[str, Any]:
    """The params of a run that say which network or networks it belongs to."""
    cell = cells[0]
    params: dict[str, Any] = {
        "dataset": cell.dataset,
        "arch": cell.arch,
        "kernel_size": cell.kernel_size,
        **_field_params(cell),
        "width": cell.width,
        **(turning_params(cell) if layout.turns else {}),
    }
    match stage.scope:
        case "cell" | "sample":
            params["seed"] = cell.seed
        case "seeds":
            params["seeds"] = [member.seed for member in cells]
        case "network":
            del params["dataset"]
    return {**params, **_held_out_params(cell)} if "dataset" in params else params


def _field_params(cell: Cell) -> dict[str, int]:
    """The receptive field; nothing if it is not known."""
    shape = geometry_if_read(cell)
    return {} if shape is None else {"receptive_field": shape.receptive_field}


def _held_out_params(cell: Cell) -> dict[str, int]:
    """The numbers of training and validation images; nothing if none are held out."""
    if cell.validation is None:
        return {}
    facts = cell.facts
    return {"train_images": facts.train_images, "validation_images": facts.validation_images}
