"""More epochs for a network that was trained already: training goes on where the shorter one ended.

All that is random in training follows from the seed and the epoch. So the first 200 of 300 epochs
are those of a training of 200, to the bit on a processor, if the learning rate of an epoch does not
depend on how many follow.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from itertools import islice
from pathlib import Path

from rfray.plan import Node, keys_of_fewer_epochs
from rfray.stages.registry import stages
from rfray.study.naming import TRAIN

_MOST_LOOKED_AT = 500


def begun(node: Node, checkpoints: Path) -> Path | None:
    """The folder of the longest shorter training that a node can go on from; None if none is left.

    Args:
        node: Of any stage.
        checkpoints: The storage's folder of checkpoints, one folder a key.
    """
    if not may_go_on(node):
        return None
    return next((checkpoints / key for _, key in _longest(node, checkpoints)), None)


def may_go_on(node: Node) -> bool:
    """Whether a node is a training that more epochs can be added to."""
    return node.stage == TRAIN and why_not(node) is None


def why_not(node: Node) -> str | None:
    """What keeps a training from going on from a shorter one, in a sentence; None if nothing."""
    return stages()[node.stage].begun(node.parameters)


def longer_words(
    nodes: Iterable[Node], checkpoints: Path, finished: Collection[str]
) -> Iterator[str]:
    """Which trainings go on from shorter ones, and which could if it were not for what.

    A few hundred are looked at: each may have as many keys as epochs.

    Args:
        nodes: Those to be run, of all stages.
        checkpoints: The storage's folder of checkpoints.
        finished: Keys of the study's finished runs.
    """
    trainings = list(islice((node for node in nodes if node.stage == TRAIN), _MOST_LOOKED_AT))
    if not finished and not checkpoints.is_dir():
        return
    counts = Counter(filter(None, (_outlook(node, checkpoints, finished) for node in trainings)))
    for words, count in sorted(counts.items()):
        yield f"{count} of {len(trainings)} trainings {words}"


def _outlook(node: Node, checkpoints: Path, finished: Collection[str]) -> str | None:
    """Where a training begins, if a shorter one was there before it."""
    reached = [epochs for epochs, _ in _longest(node, checkpoints)]
    if reached and may_go_on(node):
        return f"go on from epoch {reached[0]}, which shorter ones have reached"
    done = [epochs for epochs, key in keys_of_fewer_epochs(node) if key in finished]
    if not done:
        return None
    reason = why_not(node) or "their checkpoints are gone"
    return f"start anew, though shorter ones have reached epoch {done[0]}: {reason}"


def _longest(node: Node, checkpoints: Path) -> list[tuple[int, str]]:
    return list(islice(_left(node, checkpoints), 1))


def _left(node: Node, checkpoints: Path) -> Iterator[tuple[int, str]]:
    """(epochs, key) of the shorter trainings whose checkpoint is still there, the longest first."""
    for epochs, key in keys_of_fewer_epochs(node):
        if (checkpoints / key / f"{node.stage}.safetensors").is_file():
            yield epochs, key
