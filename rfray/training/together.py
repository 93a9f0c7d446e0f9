"""One training in several processes of this machine, each on a device of its own.

The process that a stage runs in is none of them: it starts them, takes the network's state behind
each epoch, and is where one is evaluated, saved and reported, as if it had trained by itself. So it
can end them all whenever one is lost, whatever the others wait for; and between two epochs nobody
waits for anybody but for it, so that no time limit of a communication library counts while it
evaluates.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NoReturn, cast

import torch
from torch import nn

from rfray.cell import Cell
from rfray.data.dataset import Dataset
from rfray.errors import LostProcessError
from rfray.plugins import plugin_files_in_use
from rfray.training.checkpoint import load_state, save_state
from rfray.training.loop import EpochResult, LossNotFiniteError, train_epochs
from rfray.training.member_messages import Failure, Task
from rfray.training.protocol import TrainingProtocol

_SECONDS_TO_FOLLOW = 2.0
"""In which what one process brings down brings down others; the first of them is the cause."""

_SECONDS_TO_END = 30.0

_COMMAND = "import sys; from rfray.training.member import main; main(int(sys.argv[1]))"


class MemberError(RuntimeError):
    """One of the processes failed."""


def cell_epochs(
    cell: Cell,
    module: nn.Module,
    optimizer: torch.optim.Optimizer,
    dataset: Dataset,
    protocol: TrainingProtocol,
    *,
    processes: int,
    first_epoch: int,
) -> Iterator[EpochResult]:
    """Train a cell's network in place, yielding after each epoch, in one process or in several.

    The weights of several are those of one, which `train_epochs` gives, up to rounding.

    Args:
        cell: The cell.
        module: Its network, on the device of `dataset`.
        optimizer: Over the module's parameters, with the state that `first_epoch` finds.
        dataset: The cell's.
        protocol: Epochs, batch size, learning rate and so on.
        processes: How many train it.
        first_epoch: 1, or the epoch after the last one of an interrupted run.

    Raises:
        LossNotFiniteError: With epoch and step.
        LostProcessError: One of several processes died.
        MemberError: One of them failed, or there are fewer cards than processes.
    """
    if processes == 1:
        return train_epochs(
            module, optimizer, dataset, protocol, cell.seed, first_epoch=first_epoch
        )
    devices = _devices(dataset.train.labels.device.type, processes)
    return epochs_on(devices, cell, module, optimizer, protocol, first_epoch)


def epochs_on(
    devices: Sequence[str],
    cell: Cell,
    module: nn.Module,
    optimizer: torch.optim.Optimizer,
    protocol: TrainingProtocol,
    first_epoch: int,
) -> Iterator[EpochResult]:
    """As `cell_epochs`, in a process for each of some devices.

    Args:
        devices: As PyTorch names them: `cpu`, or cards such as `cuda:0`.
        cell: The cell.
        module: Its network; wherever it lies, it is in the state of each epoch that is yielded.
        optimizer: As `cell_epochs` takes it.
        protocol: As there.
        first_epoch: As there.
    """
    with TemporaryDirectory(prefix="rfray-together-") as folder:
        meeting = Path(folder)
        state = meeting / "state.safetensors"
        save_state(state, module, optimizer)
        tasks = [
            Task(
                cell=cell,
                protocol=protocol,
                first_epoch=first_epoch,
                rank=rank,
                devices=tuple(devices),
                meeting=meeting,
                state=state,
                threads=max(1, torch.get_num_threads() // len(devices)),
                plugins=plugin_files_in_use(),
            )
            for rank in range(len(devices))
        ]
        with _members(tasks) as members:
            for _ in range(first_epoch, protocol.epochs + 1):
                result = members.epoch()
                load_state(state, module, optimizer)
                yield result


def _devices(kind: str, processes: int) -> list[str]:
    if kind != "cuda":
        return [kind] * processes
    there = torch.cuda.device_count()
    if there < processes:
        raise MemberError(f"training was given {processes} GPUs, and PyTorch finds {there} of them")
    return [f"cuda:{card}" for card in range(processes)]


class _Members:
    """The processes that run, and the line to each.

    Args:
        tasks: What each is to do, by its rank.
    """

    def __init__(self, tasks: Sequence[Task]) -> None:
        self._lines: list[Connection] = []
        self._processes: list[subprocess.Popen[bytes]] = []
        self._waiting = False
        for task in tasks:
            line, process = _started(task)
            self._lines.append(line)
            self._processes.append(process)

    def epoch(self) -> EpochResult:
        """Let them do the next epoch, and wait for it."""
        for line in self._lines if self._waiting else ():
            self._send_on(line)
        self._waiting = True
        told: dict[int, EpochResult] = {}
        while len(told) < len(self._lines):
            for rank, message in self._heard(set(told)):
                if not isinstance(message, EpochResult):
                    self._fail({rank: message})
                told[rank] = message
        return told[0]

    def end(self, *, well: bool) -> None:
        """Have them end: by themselves where they have done all, else at once."""
        for line in self._lines:
            line.close()  # which they end upon
        for process in self._processes:
            if well:
                _wait(process, _SECONDS_TO_END)
            process.kill()
            process.wait()

    def _send_on(self, line: Connection) -> None:
        try:
            line.send(None)
        except OSError:
            return  # it is lost, which the next look finds

    def _heard(
        self, but: set[int], timeout: float | None = None
    ) -> list[tuple[int, EpochResult | Failure | None]]:
        """What some say, by rank; None of one that is lost."""
        listened = {line: rank for rank, line in enumerate(self._lines) if rank not in but}
        ready = cast("list[Connection]", wait(list(listened), timeout))
        return [(listened[line], _message(line)) for line in ready]

    def _fail(self, first: dict[int, Failure | None]) -> NoReturn:
        """Raise what came first: a lost process, else the earliest failure."""
        said = dict(first)
        until = time.monotonic() + _SECONDS_TO_FOLLOW
        while len(said) < len(self._lines) and (left := until - time.monotonic()) > 0:
            heard = self._heard(set(said), left)
            said |= {rank: one for rank, one in heard if not isinstance(one, EpochResult)}
        size = len(self._lines)
        for rank, message in said.items():
            if message is None:
                how = _how_it_ended(self._processes[rank])
                raise LostProcessError(
                    f"one of the {size} processes that trained together was lost: {how}"
                )
        rank, failure = min(
            ((rank, one) for rank, one in said.items() if one is not None),
            key=lambda pair: pair[1].moment,
        )
        if failure.loss_not_finite:
            raise LossNotFiniteError(failure.reason)
        error = MemberError(f"{failure.reason} (process {rank + 1} of {size})")
        error.add_note(failure.traceback)
        raise error


@contextmanager
def _members(tasks: Sequence[Task]) -> Iterator[_Members]:
    members = _Members(tasks)
    well = False
    try:
        yield members
        well = True
    finally:
        members.end(well=well)


def _started(task: Task) -> tuple[Connection, subprocess.Popen[bytes]]:
    """A process for a task, and the line to it.

    A command of its own: `multiprocessing` would run this process's main script there once more,
    which in a worker is Ray's.
    """
    here, there = Pipe()
    with there:
        process = subprocess.Popen(
            [sys.executable, "-c", _COMMAND, str(there.fileno())],
            pass_fds=[there.fileno()],
            stdin=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )
    here.send(task)
    return here, process


def _message(line: Connection) -> EpochResult | Failure | None:
    try:
        return cast("EpochResult | Failure", line.recv())
    except (EOFError, OSError):
        return None


def _how_it_ended(process: subprocess.Popen[bytes]) -> str:
    code = _wait(process, _SECONDS_TO_FOLLOW)
    if code is None:
        return "it does not answer"
    return f"it ended with code {code}" if code >= 0 else signal.Signals(-code).name


def _wait(process: subprocess.Popen[bytes], seconds: float) -> int | None:
    """The code with which it ended; None if it has not."""
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        return None
