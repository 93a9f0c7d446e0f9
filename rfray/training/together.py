"""One training in several processes of this machine, each on its own device.

The process of the stage is not one of them: it starts them, loads the network's state after each
epoch, and evaluates, saves and reports it, as if it had trained the network itself. So it can end
all of them if one is lost, even while the others wait. Between two epochs they wait only for this
process, so that no time limit of a communication library applies while it evaluates.
"""

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
"""Time in which the failure of one process makes others fail; the first failure is the cause."""

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

    With several, the weights are those of one process (`train_epochs`) up to rounding.

    Args:
        cell: The cell.
        module: Its network, on the device of `dataset`.
        optimizer: Over the module's parameters, with the state before `first_epoch`.
        dataset: The cell's.
        protocol: Epochs, batch size, learning rate and so on.
        processes: Number of processes that train it.
        first_epoch: 1, or the epoch after the last one of an interrupted run.

    Raises:
        LossNotFiniteError: With epoch and step.
        LostProcessError: One of several processes died.
        MemberError: One of them failed, or there are fewer GPUs than processes.
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
    """As `cell_epochs`, with one process for each device.

    Args:
        devices: PyTorch's names: `cpu`, or GPUs such as `cuda:0`.
        cell: The cell.
        module: Its network, on any device; it has the state of each epoch that is yielded.
        optimizer: As for `cell_epochs`.
        protocol: As for `cell_epochs`.
        first_epoch: As for `cell_epochs`.
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
    """The running processes, and the connection to each.

    Args:
        tasks: The task of each, by rank.
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
        results: dict[int, EpochResult] = {}
        while len(results) < len(self._lines):
            for rank, message in self._heard(set(results)):
                if not isinstance(message, EpochResult):
                    self._fail({rank: message})
                results[rank] = message
        return results[0]

    def end(self, *, well: bool) -> None:
        """End them: if all went well they have time to end themselves, else at once."""
        for line in self._lines:
            line.close()  # this ends them
        for process in self._processes:
            if well:
                _wait(process, _SECONDS_TO_END)
            process.kill()
            process.wait()

    def _send_on(self, line: Connection) -> None:
        try:
            line.send(None)
        except OSError:
            return  # it is lost, which the next call of `_heard` shows

    def _heard(
        self, but: set[int], timeout: float | None = None
    ) -> list[tuple[int, EpochResult | Failure | None]]:
        """Messages of some members, by rank; None from a lost one."""
        listened = {line: rank for rank, line in enumerate(self._lines) if rank not in but}
        ready = cast("list[Connection]", wait(list(listened), timeout))
        return [(listened[line], _message(line)) for line in ready]

    def _fail(self, first: dict[int, Failure | None]) -> NoReturn:
        """Raise the cause: a lost process, else the earliest failure."""
        messages = dict(first)
        until = time.monotonic() + _SECONDS_TO_FOLLOW
        while len(messages) < len(self._lines) and (left := until - time.monotonic()) > 0:
            heard = self._heard(set(messages), left)
            messages |= {rank: one for rank, one in heard if not isinstance(one, EpochResult)}
        size = len(self._lines)
        for rank, message in messages.items():
            if message is None:
                how = _how_it_ended(self._processes[rank])
                raise LostProcessError(
                    f"one of the {size} processes that trained together was lost: {how}"
                )
        rank, failure = min(
            ((rank, one) for rank, one in messages.items() if one is not None),
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
    """A process for a task, and the connection to it.

    It is started as a command, because `multiprocessing` would run this process's main script
    again, which in a worker is Ray's.
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
    """The exit code of a process; None if it has not ended."""
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        return None
