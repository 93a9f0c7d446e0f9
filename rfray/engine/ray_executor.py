"""Jobs on Ray: training cells as Tune trials, everything else as tasks."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Callable
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

import ray

from rfray.engine.executor import Ended, Event
from rfray.engine.frontier import TRAIN, Occupancy
from rfray.engine.job import Job, Outcome, lost
from rfray.engine.trials import TrialLane
from rfray.engine.worker import run_task
from rfray.errors import UserError

_ATTEMPTS = 3
_CONNECT_SECONDS = 10


def start_ray(address: str | None) -> None:
    """Join the cluster at `address`, or start Ray on this machine where there is none.

    Raises:
        UserError: There is no cluster at `address`.
    """
    if address:
        _refuse_unreachable(address)
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # Ray's coming default
    try:
        ray.init(
            address=address,
            log_to_driver=False,
            logging_level=logging.ERROR,
            **({} if address else {"include_dashboard": False}),
        )
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise UserError(
            f"no Ray cluster answers: {str(error).splitlines()[0]}",
            where=f"--address {address}" if address else "this machine",
            do="leave --address out to start Ray here" if address else "",
        ) from error


def _refuse_unreachable(address: str) -> None:
    """Ray itself tries for minutes where nothing listens."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if not colon or not port.isdigit():
        return
    try:
        socket.create_connection((host, int(port)), timeout=_CONNECT_SECONDS).close()
    except OSError as error:
        raise UserError(
            f"no Ray cluster answers: {error.strerror or error}",
            where=f"--address {address}",
            do="leave --address out to start Ray here",
        ) from error


def largest_node() -> tuple[Occupancy, str]:
    """The most that any one node offers of each resource, and the nodes in words."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    most = Occupancy(
        cpus=max((node.get("CPU", 0.0) for node in nodes), default=0.0),
        gpus=max((node.get("GPU", 0.0) for node in nodes), default=0.0),
    )
    words = ", ".join(
        f"{node.get('CPU', 0):g} CPUs and {node.get('GPU', 0):g} GPUs" for node in nodes
    )
    return most, words


class RayExecutor:
    """Runs jobs on the Ray that `start_ray` joined.

    Args:
        study: Name of the study.
        storage: Folder for Tune's records.
    """

    def __init__(self, study: str, storage: Path) -> None:
        self._study = study
        self._storage = storage
        self._events: SimpleQueue[Event] = SimpleQueue()
        self._lane: TrialLane | None = None
        self._task: Callable[..., Any] = ray.remote(run_task)
        self._running: dict[str, Any] = {}

    @property
    def capacity(self) -> Occupancy:
        """All cores and GPUs of the cluster as it is now."""
        resources = ray.cluster_resources()
        return Occupancy(cpus=resources.get("CPU", 0.0), gpus=resources.get("GPU", 0.0))

    def submit(self, job: Job, occupancy: Occupancy, memory: int | None) -> None:
        """Start a job as a trial or as a task."""
        if job.stage == TRAIN:
            if self._lane is None:
                self._lane = TrialLane(
                    self._study, self._storage, occupancy, self._events, _ATTEMPTS - 1
                )
            self._lane.release(job)
            return
        if self._lane is not None:
            self._lane.give_up_idle_slot()
        options = self._task.options(  # type: ignore[attr-defined]
            name=job.name,
            num_cpus=occupancy.cpus,
            num_gpus=occupancy.gpus,
            memory=memory,
            max_retries=_ATTEMPTS - 1,
        )
        reference = options.remote(job.model_dump_json())
        self._running[job.key] = reference
        reference.future().add_done_callback(lambda future: self._ended(job.key, future))

    def no_more(self, stage: str) -> None:
        """Tune may end once its trials have."""
        if stage == TRAIN and self._lane is not None:
            self._lane.close()

    def events(self, timeout: float) -> list[Event]:
        """What has happened; raises what stopped Tune, if anything did."""
        if self._lane is not None and self._lane.failure is not None:
            raise self._lane.failure
        happened: list[Event] = []
        try:
            happened.append(self._events.get(timeout=timeout))
            while True:
                happened.append(self._events.get_nowait())
        except Empty:
            return happened

    def close(self) -> None:
        """Stop whatever runs and leave the cluster."""
        self.no_more(TRAIN)
        ray.shutdown()

    def _ended(self, key: str, future: Any) -> None:
        """In Ray's thread: tell the driver's."""
        self._running.pop(key, None)
        error = future.exception()
        if error is None:
            self._events.put(Ended(Outcome.model_validate_json(future.result())))
            return
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        self._events.put(Ended(lost(key, f"the task's process was lost: {reason}")))
