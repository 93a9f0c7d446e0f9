"""The content of keys: all that determines the numbers of a node. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any

from rfray.cell import Cell
from rfray.models.network import Layer, Network
from rfray.models.opaque import AnyNetwork, OpaqueNetwork
from rfray.plan.graph import Node
from rfray.plan.keys import digest
from rfray.stages.registry import stage_code, stages
from rfray.stages.stage import Stage, Variant


def identity_of(
    stage: Stage[Any],
    changed: Mapping[str, Any],
    variant: Variant,
    inputs: Sequence[str],
    cell: Cell,
) -> dict[str, Any]:
    """The content of a node's key."""
    # Own stages have a version. A stage from outside has its code as well.
    code = stage_code(stage.name)
    return {
        "stage": stage.name,
        "version": stage.version,
        "parameters": changed,
        "variant": variant,
        "inputs": inputs,
        "subject": None if stage.reads else subject(stage, cell),
        **({"code": code} if code else {}),
    }


def keys_of_fewer_epochs(node: Node) -> Iterator[tuple[int, str]]:
    """The keys of the same training with fewer epochs, as (epochs, key), the most epochs first.

    Nothing for a training that reads a search: its settings are known only after the search.

    Args:
        node: A node of the stage `train`.
    """
    if node.inputs:
        return
    stage = stages()[node.stage]
    identity = identity_of(stage, {}, node.variant, [], node.cells[0])
    changed = node.parameters.model_dump(exclude_defaults=True)
    usual = type(node.parameters).model_fields["epochs"].default
    for epochs in range(changed.get("epochs", usual) - 1, 0, -1):
        others = {name: value for name, value in changed.items() if name != "epochs"}
        identity["parameters"] = others if epochs == usual else {**others, "epochs": epochs}
        yield epochs, digest(identity)


def subject(stage: Stage[Any], cell: Cell) -> dict[str, Any]:
    """What a node without inputs works on: network, data set and seed."""
    if stage.scope == "network":
        return {"network": trunk_digest(cell.network)}
    return {
        "dataset": cell.facts.fingerprint,
        "network": _network_digest(cell.any_network),
        "seed": cell.seed,
    }


@cache
def _network_digest(network: AnyNetwork) -> str:
    if isinstance(network, OpaqueNetwork):
        return digest(["opaque", network.code, network.parameters])
    return _with_code(network, network.layers)


@cache
def trunk_digest(network: Network) -> str:
    """Digest of the layers that do not depend on the number of classes."""
    return _with_code(network, network.trunk)


def _with_code(network: Network, layers: Sequence[Layer]) -> str:
    """Digest of layers and, if code from outside initialises them, of that code."""
    return digest([layers, network.origin.code] if network.origin else layers)
