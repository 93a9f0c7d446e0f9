"""Content keys: equal work has an equal key, in every study and on every machine. Pure."""

import dataclasses
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any

from rfray.cell import Cell
from rfray.models.network import Layer, Network
from rfray.models.opaque import AnyNetwork, OpaqueNetwork
from rfray.parameters import Parameters
from rfray.plan.graph import Node
from rfray.stages.registry import stage_code, stages
from rfray.stages.stage import Stage, Variant

_DIGEST_BYTES = 16


def digest(content: Any) -> str:
    """Hexadecimal digest (32 characters) of plain data, dataclasses and parameters.

    Fields at their default are left out. So a new field with a default does not change the keys of
    finished work.

    Raises:
        TypeError: `content` holds something that has no canonical form.
    """
    text = json.dumps(_canonical(content), sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.blake2b(text.encode(), digest_size=_DIGEST_BYTES).hexdigest()


def _canonical(content: Any) -> Any:
    match content:
        case None | bool() | int() | str():
            return content
        case float():
            return int(content) if content.is_integer() else content
        case Parameters():
            return _canonical(content.model_dump(exclude_defaults=True))
        case Mapping():
            return {str(key): _canonical(value) for key, value in content.items()}
        case Sequence():
            return [_canonical(value) for value in content]
    if dataclasses.is_dataclass(content):
        changed = {
            field.name: getattr(content, field.name)
            for field in dataclasses.fields(content)
            if getattr(content, field.name) != field.default
        }
        return [type(content).__name__, _canonical(changed)]
    raise TypeError(f"a {type(content).__name__} has no canonical form")


def identity_of(
    stage: Stage[Any],
    changed: Mapping[str, Any],
    variant: Variant,
    inputs: Sequence[str],
    cell: Cell,
) -> dict[str, Any]:
    """The content of a node's key: all that determines its numbers."""
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
