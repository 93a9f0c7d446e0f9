"""More epochs for a trained network: the longer training continues where the shorter one ended.

All randomness of training depends only on the seed and the epoch. So the first 200 of 300 epochs
are equal to a training of 200 epochs (bit-identical on a CPU), if the learning rate of an epoch
does not depend on the number of epochs.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from itertools import islice
from pathlib import Path

from rfray.plan import Node, keys_of_fewer_epochs
from rfray.stages.registry import stages
from rfray.study.naming import TRAIN

_MOST_LOOKED_AT = 500


def begun(node: Node, checkpoints: Path) -> Path | None:
    """Checkpoint folder of the longest shorter training that a node can continue; else None."""
    found = _longest(node, checkpoints) if may_go_on(node) else None
    return checkpoints / found[1] if found else None


def may_go_on(node: Node) -> bool:
    """Whether a node is a training that can continue with more epochs."""
    return node.stage == TRAIN and why_not(node) is None


def why_not(node: Node) -> str | None:
    """Why a training cannot continue a shorter one, in a sentence; None if it can."""
    return stages()[node.stage].begun(node.parameters)


def longer_words(
    nodes: Iterable[Node], checkpoints: Path, finished: Collection[str]
) -> Iterator[str]:
    """Which trainings continue shorter ones, and which cannot and why.

    Only the first few hundred trainings are looked at: each may have as many keys as epochs.

    Args:
        nodes: The nodes to run, of all stages.
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
    """Where a training begins, in words; None if there was no shorter one."""
    reached = _longest(node, checkpoints)
    if reached and may_go_on(node):
        return f"continue from epoch {reached[0]}, which shorter ones have reached"
    done = [epochs for epochs, key in keys_of_fewer_epochs(node) if key in finished]
    if not done:
        return None
    reason = why_not(node) or "their checkpoints are gone"
    return f"start from the beginning, although shorter ones reached epoch {done[0]}: {reason}"


def _longest(node: Node, checkpoints: Path) -> tuple[int, str] | None:
    """(epochs, key) of the longest shorter training whose checkpoint exists."""
    return next(
        (
            (epochs, key)
            for epochs, key in keys_of_fewer_epochs(node)
            if (checkpoints / key / f"{node.stage}.safetensors").is_file()
        ),
        None,
    )
