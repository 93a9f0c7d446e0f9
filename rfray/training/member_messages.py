"""The messages to and from a process that trains with others."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from rfray.cell import Cell
from rfray.training.protocol import TrainingProtocol


@dataclass(frozen=True)
class Task:
    """The task of one member of a team.

    Attributes:
        first_epoch: The first epoch to train.
        rank: The number of the member, from 0.
        devices: The device of each member, by rank.
        meeting: A folder of this machine, in which the members find each other.
        state: The file with the state before `first_epoch`; the first member writes the state
            after each epoch to it.
        threads: Number of threads that PyTorch may use.
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
    """Why a member failed.

    Attributes:
        moment: The time, by the machine's monotonic clock.
        reason: The reason in one line.
        traceback: Its traceback.
        loss_not_finite: Whether the loss became infinite or not a number; `reason` is then the
            message with epoch and step only.
    """

    moment: float
    reason: str
    traceback: str
    loss_not_finite: bool
