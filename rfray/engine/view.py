"""What whoever watches a sweep is told."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from rfray.engine.frontier import Frontier
from rfray.engine.job import NOTHING_TOLD, Outcome, Progress
from rfray.plan import Node


@dataclass(frozen=True)
class Ending:
    """One node's end."""

    node: Node
    outcome: Outcome
    skipped: int


@dataclass(frozen=True)
class Running:
    """A node that runs, for how many seconds, and what it told last, if anything."""

    node: Node
    seconds: float
    told: Progress = NOTHING_TOLD


@dataclass(frozen=True)
class View:
    """How a sweep stands.

    Attributes:
        frontier: Where every node stands.
        seconds: Since the driver started.
        seconds_left: If all goes on as so far; None before anything has finished.
        running: The nodes that run, the longest first.
        outage: What keeps the ledger from being written, in a sentence; empty if nothing does.
        waiting: What machine is waited for, and since when; empty if none is.
    """

    frontier: Frontier
    seconds: float
    seconds_left: float | None = None
    running: tuple[Running, ...] = ()
    outage: str = ""
    waiting: str = ""


@dataclass(frozen=True)
class Watcher:
    """Who is told how a sweep goes: of every ending at once, of the view every now and then.

    Attributes:
        ended: Told of each node's end.
        looked: Told how all stands.
        noted: Told, in a sentence, what else a person should know.
    """

    ended: Callable[[Ending], None]
    looked: Callable[[View], None]
    noted: Callable[[str], None] = lambda words: None
