"""How much room weights take on disk: reckoned from the network alone, without torch."""

from __future__ import annotations

from math import log2, prod

from rfray.cell import Cell
from rfray.models.opaque import OpaqueNetwork

_BYTES = 4
"""Of a number in float32."""


def whole_bytes(cell: Cell) -> float:
    """Bytes of a network's parameters and buffers; of one that cannot be read, the parameters."""
    if isinstance(cell.any_network, OpaqueNetwork):
        return float(_BYTES * cell.parameters)
    norms = {layer.name for layer in cell.network.batch_norms}
    # A batch norm's mean and variance are as many as its factors and shifts.
    buffers = sum(layer.parameters for layer in cell.geometry.layers if layer.name in norms)
    return float(_BYTES * (cell.geometry.parameters + buffers))


def mask_bytes(cell: Cell, rate: float) -> float:
    """Bytes of a compressed mask that removes the share `rate` of the weights: their entropy."""
    bits = -(rate * log2(rate) + (1 - rate) * log2(1 - rate))
    return prunable_weights(cell) * bits / 8


def survivor_bytes(cell: Cell, rate: float) -> float:
    """Bytes of a pruned network whose surviving weights have all changed, at most.

    Those that moved little take half of it.
    """
    removed = _BYTES * rate * prunable_weights(cell)
    return whole_bytes(cell) - removed + mask_bytes(cell, rate)


def prunable_weights(cell: Cell) -> int:
    """Weights of the layers that pruning touches by default: not the first, not the last."""
    network = cell.any_network
    if isinstance(network, OpaqueNetwork):
        shapes = dict(network.parameters)
        return sum(prod(shapes[name]) for name in network.weights[1:-1])
    names = {layer.name for layer in cell.network.weight_layers[1:-1]}
    return sum(layer.weights for layer in cell.geometry.layers if layer.name in names)
