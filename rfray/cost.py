"""What a plan costs, before anything has been measured."""

from __future__ import annotations

from rfray.plan import Node

MULTIPLICATIONS_PER_CORE_SECOND = 6e9
"""Float32 multiply-accumulates that one CPU core does in a second: measured on an AVX2 EPYC core
with the quickstart's networks, where it lay between 3e9 (ResNet50) and 10e9 (VGG)."""


def core_seconds(node: Node) -> float:
    """Estimated seconds of one CPU core."""
    return node.work / MULTIPLICATIONS_PER_CORE_SECOND
