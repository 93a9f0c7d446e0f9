"""Networks that cannot be read, and the stages that are left out for them. Pure.

A stage that needs the description of a network's layers is left out for such a network. The other
stages work on the module itself.
"""

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
    """Whether a stage, and every stage that it reads, can work on a network that is not read."""
    return stage.opaque and all(stages()[name].opaque for name in stage.reads)


def left_out_stages(cells: Iterable[Cell], planned: Sequence[str]) -> Mapping[str, tuple[str, ...]]:
    """For each network that cannot be read: the planned stages that cannot work on it."""
    without = tuple(name for name in planned if not works_without_description(stages()[name]))
    return {cell.arch: without for cell in cells if geometry_if_read(cell) is None}


def unread_findings(cells: Iterable[Cell], planned: Sequence[str]) -> Iterator[str]:
    """For each network that cannot be read, a sentence: why, and which stages are left out."""
    networks = {cell.arch: cell.any_network for cell in cells}
    for arch, without in left_out_stages(cells, planned).items():
        network = networks[arch]
        reason = network.reason if isinstance(network, OpaqueNetwork) else ""
        stages_left_out = f"; left out for it: {', '.join(without)}" if without else ""
        yield f"{arch}: {reason}. It is used as it is, without a receptive field{stages_left_out}"


def left_out_document(without: Mapping[str, Sequence[str]]) -> dict[str, dict[str, list[str]]]:
    """The same for the study document, JSON-ready; nothing if all networks were read."""
    return {"left_out": {arch: list(names) for arch, names in without.items()}} if without else {}
