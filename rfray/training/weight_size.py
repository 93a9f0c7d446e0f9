"""The size of weights on disk, estimated from the network without torch."""

from functools import cache
from math import log2, prod

from rfray.cell import Cell
from rfray.models.geometry import geometry
from rfray.models.network import Network
from rfray.models.opaque import OpaqueNetwork

_BYTES = 4
"""Bytes of a float32 number."""


def whole_bytes(cell: Cell) -> float:
    """Bytes of a network's parameters and buffers; only parameters if it cannot be read."""
    if isinstance(cell.any_network, OpaqueNetwork):
        return float(_BYTES * cell.parameters)
    buffers = _buffers(cell.network, cell.facts.image_size)
    return float(_BYTES * (cell.geometry.parameters + buffers))


# A plan of thousands of networks asks for both many times.
@cache
def _buffers(network: Network, image_size: int) -> int:
    """Numbers in buffers: a batch norm has as many means and variances as factors and shifts."""
    norms = {layer.name for layer in network.batch_norms}
    layers = geometry(network, image_size).layers
    return sum(layer.parameters for layer in layers if layer.name in norms)


@cache
def _inner_weights(network: Network, image_size: int) -> int:
    """Weights of all layers but the first and the last."""
    names = {layer.name for layer in network.weight_layers[1:-1]}
    layers = geometry(network, image_size).layers
    return sum(layer.weights for layer in layers if layer.name in names)


def mask_bytes(cell: Cell, rate: float) -> float:
    """Bytes of a compressed mask that removes the share `rate` of the weights: their entropy."""
    bits = -(rate * log2(rate) + (1 - rate) * log2(1 - rate))
    return prunable_weights(cell) * bits / 8


def survivor_bytes(cell: Cell, rate: float) -> float:
    """Largest number of bytes of a pruned network whose remaining weights have all changed.

    Weights that changed little need half of it.
    """
    removed = _BYTES * rate * prunable_weights(cell)
    return whole_bytes(cell) - removed + mask_bytes(cell, rate)


def prunable_weights(cell: Cell) -> int:
    """Weights of the layers that are pruned by default: all but the first and the last."""
    network = cell.any_network
    if isinstance(network, OpaqueNetwork):
        shapes = dict(network.parameters)
        return sum(prod(shapes[name]) for name in network.weights[1:-1])
    return _inner_weights(cell.network, cell.facts.image_size)
