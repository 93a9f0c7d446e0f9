"""The keeper: an actor on the head that asks Ray's autoscaler for the machines that sweeps want.

A request to the autoscaler stays in force until it is replaced, even if the process that asked is
dead, and the whole cluster has only one request. So sweeps do not ask the autoscaler themselves.
They repeatedly tell the keeper what they want, and the keeper asks for the sum. If a sweep is
silent for too long, the keeper takes its part back. The keeper is independent of the sweeps, and
ends when there are none. docs/design/elastic.md describes the alternatives.
"""

import os
import socket
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import ray
import yaml
from ray.exceptions import RayActorError, RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from rfray.engine.prospects import SECONDS_BETWEEN, Bundle, Prospects, Wishes, read_prospects

_NAME, _NAMESPACE = "keeper", "rfray"
_LOOK_SECONDS = 2.0
_IDLE_SECONDS = 30.0
_START_SECONDS = 90.0
_ON_THE_HEAD = "node:__internal_head__"
_NAMESPACE_FILE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


class Keeper:
    """Keeps one request in force; `_joined_keeper` makes it an actor."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._wishes = Wishes()
        configuration = configuration_here(ray.get_runtime_context().gcs_address)
        self._prospects = None if configuration is None else read_prospects(configuration)
        self._asked: list[Bundle] | None = None  # not known: an earlier keeper may have asked

    def prospects(self) -> Prospects | None:
        """What the autoscaler may start; None if there is no autoscaler, or it is not known."""
        return self._prospects

    def want(self, sweep: str, bundles: list[Bundle]) -> None:
        """Ask for this sweep's bundles from now on."""
        with self._lock:
            self._wishes.want(sweep, bundles, time.monotonic())
        self._ask()

    def watch(self) -> None:
        """Take back the requests of dead sweeps; ends when no sweep wants anything for a while."""
        wanted = time.monotonic()
        while time.monotonic() - wanted < _IDLE_SECONDS:
            time.sleep(_LOOK_SECONDS)
            with suppress(Exception):  # the head is busy: asks again next time
                self._ask()
            if self._asked:
                wanted = time.monotonic()
        ray.actor.exit_actor()

    def _ask(self) -> None:
        from ray.autoscaler.sdk import request_resources

        with self._lock:
            now = self._wishes.standing(time.monotonic())
            if self._prospects is not None:
                now = self._prospects.within(now)
            if now != self._asked:
                request_resources(bundles=[dict(bundle) for bundle in now])
                self._asked = now


class Requests:
    """The requests of one sweep of a study to the keeper.

    Attributes:
        prospects: What the cluster's autoscaler may start; None if there is no autoscaler or no
            keeper. Then nothing is requested.
    """

    def __init__(self, study: str) -> None:
        self._sweep = f"{study} on {socket.gethostname()}, process {os.getpid()}"
        self._keeper = _joined_keeper()
        self.prospects = self._prospects()
        self._wanted: list[Bundle] = []
        self._said = -SECONDS_BETWEEN
        self._answer: Any = None

    def want(self, bundles: Sequence[Bundle]) -> None:
        """Tell the keeper what is wanted, if that has changed or was told too long ago."""
        self._look_after_the_keeper()
        new = list(bundles)
        if new == self._wanted and time.monotonic() - self._said < SECONDS_BETWEEN:
            return
        if new or self._wanted:
            self._answer = self._keeper.want.remote(self._sweep, new)
        self._wanted, self._said = new, time.monotonic()

    def take_back(self, patience: float) -> None:
        """Take the request back, and wait up to `patience` seconds for the keeper."""
        if self._wanted:
            self._wanted = []
            ray.wait([self._keeper.want.remote(self._sweep, [])], timeout=patience)

    def _prospects(self) -> Prospects | None:
        for _ in range(2):
            try:
                answer = self._keeper.prospects.remote()
                told: Prospects | None = ray.get(answer, timeout=_START_SECONDS)
            except RayActorError:  # it was just ending, because no sweep wanted anything
                self._keeper = _joined_keeper()
            except RayError:
                break
            else:
                return told
        return None

    def _look_after_the_keeper(self) -> None:
        """Start another keeper if this one has ended, and repeat a request that was lost."""
        if self._answer is None or not ray.wait([self._answer], timeout=0)[0]:
            return
        try:
            ray.get(self._answer)
        except RayError:
            self._keeper = _joined_keeper()
            self._said = -SECONDS_BETWEEN
        self._answer = None


def configuration_here(gcs_address: str) -> dict[str, Any] | None:
    """The configuration of a cluster's autoscaler, if there is one; works only on the head.

    Ray has no function for it. If `ray start --autoscaling-config` started the head, the command
    line of the autoscaler's process names the file. In a pod of KubeRay the description of the
    cluster is read in the same way as by Ray's autoscaler.
    """
    in_pod = os.environ.get("RAY_CLUSTER_NAME")
    if in_pod and _NAMESPACE_FILE.is_file():
        return _of_kuberay(in_pod, _NAMESPACE_FILE.read_text().strip())
    for process in psutil.process_iter(["cmdline"]):
        words = process.info["cmdline"] or []  # None for a process that may not be read
        if f"--gcs-address={gcs_address}" in words:
            for word in words:
                if word.startswith("--autoscaling-config="):
                    file = Path(word.partition("=")[2]).expanduser()
                    configuration: dict[str, Any] = yaml.safe_load(file.read_text())
                    return configuration
    return None


def _of_kuberay(cluster: str, namespace: str) -> dict[str, Any] | None:
    from ray.autoscaler._private.kuberay.autoscaling_config import AutoscalingConfigProducer

    try:
        configuration: dict[str, Any] = AutoscalingConfigProducer(cluster, namespace)()
    except Exception:  # noqa: BLE001 (no permission: the study uses the machines that are there)
        return None
    return configuration


def _joined_keeper() -> Any:
    """The keeper of this cluster, started if there is none."""
    head = next((n["NodeID"] for n in ray.nodes() if _ON_THE_HEAD in n["Resources"]), None)
    options: dict[str, Any] = {}
    if head is not None:
        options["scheduling_strategy"] = NodeAffinitySchedulingStrategy(head, soft=False)
    actor = ray.remote(Keeper)
    keeper = actor.options(
        name=_NAME,
        namespace=_NAMESPACE,
        lifetime="detached",
        get_if_exists=True,
        num_cpus=0,
        max_concurrency=100,
        max_restarts=0,
        **options,
    ).remote()
    keeper.watch.remote()
    return keeper
