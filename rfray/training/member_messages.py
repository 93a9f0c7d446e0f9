"""What a process that trains with others is sent, and what it says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from rfray.cell import Cell
from rfray.training.protocol import TrainingProtocol


@dataclass(frozen=True)
class Task:
    """What one member of a team is to do.

    Attributes:
        cell: The cell whose network is trained.
        protocol: How.
        first_epoch: Where it begins.
        rank: Which member it is, from 0 on.
        devices: Of all members, by rank.
        meeting: A folder of this machine, in which the members find each other.
        state: The file with the state that `first_epoch` finds, and in which the first member
            leaves that behind each epoch.
        threads: Threads that PyTorch may use.
        plugins: Texts of the study's plug-in files, by their paths.
    """

    cell: Cell
    protocol: TrainingProtocol
    first_epoch: int
    rank: int
    devices: tuple[str, ...]
    meeting: Path
    state: Path
    threads: int
    plugins: Mapping[str, str]


@dataclass(frozen=True)
class Failure:
    """Why a member ends.

    Attributes:
        moment: When, by the machine's own clock.
        reason: In one line.
        traceback: Where.
        loss_not_finite: Whether the loss became infinite or not a number; `reason` then says in
            which epoch and step, without more.
    """

    moment: float
    reason: str
    traceback: str
    loss_not_finite: bool
