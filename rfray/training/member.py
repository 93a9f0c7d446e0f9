"""A process that trains one network together with others."""

import os
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from multiprocessing.connection import Connection
from queue import SimpleQueue

import torch
import torch.distributed as dist

from rfray.data.device import resident
from rfray.models.module import build
from rfray.plugins import use_plugin_files
from rfray.training.checkpoint import load_state, save_state
from rfray.training.determinism import arithmetic_of
from rfray.training.loop import LossNotFiniteError, train_epochs
from rfray.training.member_messages import Failure, Task
from rfray.training.optimization import optimizer_for
from rfray.training.synchronised import SYNCHRONISED
from rfray.training.team import Team

_MOST_APART = timedelta(hours=1)
"""How long one member may wait for another in an epoch: reading a data set may take long. The
process that started the members notices at once if one dies."""


def main(descriptor: int) -> None:
    """Do the task that comes through a connection; end when the parent process ends."""
    line = Connection(descriptor)
    task: Task = line.recv()
    wait_for_word = _listening(line)
    failed = False
    try:
        torch.set_num_threads(task.threads)
        use_plugin_files(task.plugins)
        with _in_touch(task), arithmetic_of(task.protocol):
            _train(task, line, wait_for_word)
    except Exception as error:  # noqa: BLE001 (the parent process raises it)
        failed = True
        with suppress(OSError):
            line.send(_failure(error))
    # Without Python's normal exit, in which libraries may wait for other members for ever.
    os._exit(int(failed))


def _train(task: Task, line: Connection, wait_for_word: Callable[[], object]) -> None:
    device = torch.device(task.devices[task.rank])
    if device.type == "cuda":
        torch.cuda.set_device(device)
    cell, team = task.cell, Team(task.rank, len(task.devices))
    # CUDA graphs of steps that wait for other processes are not tested.
    protocol = task.protocol.model_copy(update={"cuda_graph": False})
    dataset = resident(cell.dataset, str(device), cell.validation)
    module = build(cell.network, 0, SYNCHRONISED[device.type])
    module.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = optimizer_for(module, protocol)
    load_state(task.state, module, optimizer)
    for result in train_epochs(
        module, optimizer, dataset, protocol, cell.seed, first_epoch=task.first_epoch, team=team
    ):
        if team.rank == 0:
            save_state(task.state, module, optimizer)
        line.send(result)
        if result.epoch < protocol.epochs:
            wait_for_word()


@contextmanager
def _in_touch(task: Task) -> Iterator[None]:
    """The members' process group: NCCL if each has its own GPU, else Gloo."""
    own_cards = len(set(task.devices)) == len(task.devices) and "cpu" not in task.devices
    if not own_cards:
        # All are on this machine, even if its name resolves to another address.
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    dist.init_process_group(
        "nccl" if own_cards else "gloo",
        store=dist.FileStore(str(task.meeting / "store"), len(task.devices)),  # type: ignore[attr-defined]
        rank=task.rank,
        world_size=len(task.devices),
        timeout=_MOST_APART,
        device_id=torch.device(task.devices[task.rank]) if own_cards else None,
    )
    yield
    dist.destroy_process_group()


def _listening(line: Connection) -> Callable[[], object]:
    """Listen in a separate thread; returns a function that waits for the next message.

    The connection ends when the parent process ends, for any reason. This process then ends too,
    even while it computes or waits for another member.
    """
    words: SimpleQueue[None] = SimpleQueue()

    def listen() -> None:
        try:
            while True:
                words.put(line.recv())
        except (EOFError, OSError):
            os._exit(1)

    threading.Thread(target=listen, name="rfray-line", daemon=True).start()
    return words.get


def _failure(error: Exception) -> Failure:
    not_finite = isinstance(error, LossNotFiniteError)
    first_line = (str(error).splitlines() or [""])[0]
    return Failure(
        moment=time.monotonic(),
        reason=first_line if not_finite else f"{type(error).__name__}: {first_line}",
        traceback=traceback.format_exc(),
        loss_not_finite=not_finite,
    )
