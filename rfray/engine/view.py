"""What a watcher of a sweep is told."""

from collections.abc import Callable
from dataclasses import dataclass

from rfray.engine.frontier import Frontier
from rfray.engine.job import NOTHING_TOLD, Outcome, Progress
from rfray.plan import Node


@dataclass(frozen=True)
class Ending:
    """The end of a node."""

    node: Node
    outcome: Outcome
    skipped: int


@dataclass(frozen=True)
class Running:
    """A running node, its seconds so far, and its last progress."""

    node: Node
    seconds: float
    told: Progress = NOTHING_TOLD


@dataclass(frozen=True)
class View:
    """The state of a sweep.

    Attributes:
        frontier: The state of every node.
        seconds: Seconds since the driver started.
        seconds_left: Estimated seconds left; None if not known.
        running: The running nodes, the longest first.
        outage: Why the tracking store cannot be written, in a sentence; empty if it can.
        waiting: Which machine the sweep waits for, and since when; empty if for none.
    """

    frontier: Frontier
    seconds: float
    seconds_left: float | None = None
    running: tuple[Running, ...] = ()
    outage: str = ""
    waiting: str = ""


@dataclass(frozen=True)
class Watcher:
    """Functions that show the progress of a sweep.

    Attributes:
        ended: Called with each node's end.
        looked: Called repeatedly with the state of the sweep.
        noted: Called with other notes, in a sentence each.
    """

    ended: Callable[[Ending], None]
    looked: Callable[[View], None]
    noted: Callable[[str], None] = lambda words: None
