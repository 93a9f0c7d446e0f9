"""What a study does without for networks that cannot be read. Pure.

A stage that asks for a network's layers is left out for such a network; the others work on the
module itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from rfray.cell import Cell
from rfray.models.geometry import Geometry
from rfray.models.opaque import OpaqueNetwork
from rfray.stages.registry import stages
from rfray.stages.stage import Stage


def geometry_if_read(cell: Cell) -> Geometry | None:
    """The cell's geometry; None if its network cannot be read."""
    return None if isinstance(cell.any_network, OpaqueNetwork) else cell.geometry


def works_without_description(stage: Stage[Any]) -> bool:
    """Whether a stage can work on a network that cannot be read, and so can all that it reads."""
    return stage.opaque and all(stages()[name].opaque for name in stage.reads)


def left_out_stages(cells: Iterable[Cell], planned: Sequence[str]) -> Mapping[str, tuple[str, ...]]:
    """By network that cannot be read, the planned stages that ask for more of it than is known."""
    without = tuple(name for name in planned if not works_without_description(stages()[name]))
    return {cell.arch: without for cell in cells if geometry_if_read(cell) is None}


def unread_findings(cells: Iterable[Cell], planned: Sequence[str]) -> Iterator[str]:
    """What cannot be read and why, and what is left out for it, a sentence a network."""
    networks = {cell.arch: cell.any_network for cell in cells}
    for arch, without in left_out_stages(cells, planned).items():
        network = networks[arch]
        reason = network.reason if isinstance(network, OpaqueNetwork) else ""
        stages_left_out = f"; left out for it: {', '.join(without)}" if without else ""
        yield f"{arch}: {reason}. It is taken as it is, without a receptive field{stages_left_out}"


def left_out_document(without: Mapping[str, Sequence[str]]) -> dict[str, dict[str, list[str]]]:
    """The same for the study document, JSON-ready: nothing where all networks were read."""
    return {"left_out": {arch: list(names) for arch, names in without.items()}} if without else {}
