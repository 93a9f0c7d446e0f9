"""What a node's key is the digest of: equal work has an equal key. Pure."""

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
    """All that a node's key is the digest of."""
    return {
        "stage": stage.name,
        "version": stage.version,
        "parameters": changed,
        "variant": variant,
        "inputs": inputs,
        "subject": None if stage.reads else subject(stage, cell),
        **_outside_code(stage),
    }


def keys_of_fewer_epochs(node: Node) -> Iterator[tuple[int, str]]:
    """Keys that a training would have with fewer epochs, as (epochs, key), the most epochs first.

    None of a training that reads a search, whose settings are not known before it has run.

    Args:
        node: Of the stage `train`.
    """
    if node.inputs:
        return
    stage = stages()[node.stage]
    identity = identity_of(stage, {}, node.variant, [], node.cells[0])
    changed = node.parameters.model_dump(exclude_defaults=True)
    usual = type(node.parameters).model_fields["epochs"].default
    for epochs in range(changed.get("epochs", usual) - 1, 0, -1):
        told = {name: value for name, value in changed.items() if name != "epochs"}
        identity["parameters"] = told if epochs == usual else {**told, "epochs": epochs}
        yield epochs, digest(identity)


def _outside_code(stage: Stage[Any]) -> dict[str, str]:
    """What the identity of a node says of a stage from outside besides; nothing of rfray's own."""
    code = stage_code(stage.name)
    return {"code": code} if code else {}


def subject(stage: Stage[Any], cell: Cell) -> dict[str, Any]:
    """What a node that reads no other one works on."""
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
    """Of what the number of classes does not change."""
    return _with_code(network, network.trunk)


def _with_code(network: Network, layers: Sequence[Layer]) -> str:
    """Of layers and, where code from outside initialises them, of that code."""
    return digest([layers, network.origin.code] if network.origin else layers)
