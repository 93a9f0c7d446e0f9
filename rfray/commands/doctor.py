"""`rfray doctor`: checks of this machine, its packages, the data, the tracking store and Ray."""

import os
import platform
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import psutil
from rich.table import Table
from rich.text import Text

from rfray.engine.cluster_address import chosen_address
from rfray.errors import UserError
from rfray.plan import Plan
from rfray.storage import Storage
from rfray.study.shelves import verdicts

_PACKAGES = ("torch", "torchvision", "ray", "mlflow")
_GIB = 2**30
_LEAST_MEMORY = 4 * _GIB
_LEAST_DISK = 5 * _GIB


@dataclass(frozen=True)
class Finding:
    """The result of one check.

    Attributes:
        subject: What was checked.
        well: Whether a sweep can run with it.
        words: What was found.
        do: What to do about it; empty if nothing.
    """

    subject: str
    well: bool
    words: str
    do: str = ""


def examine(plan: Plan, storage: Storage, address: str | None) -> Iterator[Finding]:
    """Check everything that a sweep of `plan` needs. Changes nothing.

    Args:
        plan: Its data sets are checked.
        storage: Where its results would go.
        address: A Ray cluster to join for a moment; None if Ray would start here.
    """
    yield Finding("Python", True, f"{platform.python_version()} on {platform.machine()}")
    yield from map(package_finding, _PACKAGES)
    yield from plugin_findings()
    yield _gpus()
    yield memory_finding(os.cpu_count() or 1, psutil.virtual_memory().available)
    yield disk_finding(storage.root, shutil.disk_usage(_existing(storage.root)).free)
    for name in dict.fromkeys(node.cells[0].dataset for node in plan.nodes.values()):
        yield _dataset(name)
    yield _attempt("tracking store", lambda: _tracking(storage))
    yield _attempt("Ray", lambda: _ray(address))


def package_finding(name: str) -> Finding:
    """Whether a package is installed, and which version."""
    try:
        return Finding(name, True, version(name))
    except PackageNotFoundError:
        return Finding(name, False, "not installed", f"pip install {name}")


def plugin_findings() -> Iterator[Finding]:
    """Each plug-in, and whether it can be used."""
    for plugin, problem in verdicts():
        if problem is None:
            yield Finding("plug-in", True, str(plugin))
        else:
            yield Finding("plug-in", False, f"{problem.where}: {problem.what}", problem.do)


def gpu_finding(names: list[str], has_driver: bool) -> Finding:
    """The GPUs that PyTorch sees, on a machine with or without a driver for them."""
    if names:
        return Finding("GPUs", True, ", ".join(names))
    if has_driver:
        return Finding(
            "GPUs",
            False,
            "there is nvidia-smi, but PyTorch sees no GPU",
            "install a PyTorch built for this driver: https://pytorch.org/get-started",
        )
    return Finding("GPUs", True, "none: networks are trained on the CPU")


def memory_finding(cores: int, available: int) -> Finding:
    """Whether the machine has enough memory for Ray, the driver and a worker."""
    well = available >= _LEAST_MEMORY
    words = f"{cores} cores, {available / _GIB:.1f} GiB of memory available"
    do = "" if well else "close other programs: a sweep needs 4 GiB or more"
    return Finding("machine", well, words, do)


def disk_finding(folder: Path, free: int) -> Finding:
    """Whether the storage folder can be written and its disk has enough room."""
    words = f"{free / _GIB:.0f} GiB free for {folder}"
    if not os.access(_existing(folder), os.W_OK):
        return Finding("disk", False, f"{folder} cannot be written", "name another with --storage")
    well = free >= _LEAST_DISK
    do = "" if well else "make room, or name another with --storage"
    return Finding("disk", well, words, do)


def report(findings: list[Finding]) -> Table:
    """The findings as a table."""
    table = Table(box=None, pad_edge=False, show_header=False)
    for finding in findings:
        mark = Text("ok", style="green") if finding.well else Text("!!", style="bold red")
        words = Text(finding.words)
        if finding.do:
            words.append(f"\n→ {finding.do}", style="bold" if not finding.well else "dim")
        table.add_row(mark, finding.subject, words)
    return table


def _gpus() -> Finding:
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    properties = [torch.cuda.get_device_properties(index) for index in range(count)]
    names = [f"{one.name} ({one.total_memory / _GIB:.0f} GiB)" for one in properties]
    return gpu_finding(names, shutil.which("nvidia-smi") is not None)


def _existing(folder: Path) -> Path:
    """The folder, or the nearest one above it that exists."""
    return next(place for place in (folder, *folder.parents) if place.is_dir())


def _dataset(name: str) -> Finding:
    from rfray.data.cache import prepared_path
    from rfray.data.folders import data_folder
    from rfray.data.registry import dataset_source

    path = prepared_path(dataset_source(name))
    if path.is_file():
        return Finding(name, True, f"prepared: {path}")
    return Finding(
        name,
        True,
        "not prepared yet",
        f"nothing: the first run prepares it from {data_folder()}, and says which file is missing",
    )


def _attempt(subject: str, look: Callable[[], Finding]) -> Finding:
    try:
        return look()
    except UserError as error:
        where = f"{error.where}: " if error.where else ""
        return Finding(subject, False, where + error.what, error.do)


def _tracking(storage: Storage) -> Finding:
    if storage.is_new:
        return Finding("tracking store", True, f"a new database in {storage.root}")
    from rfray.tracking import Ledger, check_store

    check_store(storage.tracking_uri)
    studies = Ledger(storage.tracking_uri).studies()
    return Finding("tracking store", True, f"{storage.tracking_uri}, {len(studies)} studies")


def _ray(address: str | None) -> Finding:
    if chosen_address(address, os.environ) is None:
        return Finding("Ray", True, "starts on this machine with each sweep")
    import ray

    from rfray.engine.ray_executor import machines
    from rfray.engine.ray_start import start_ray

    start_ray(address)
    try:
        there = list(machines().values())
    finally:
        ray.shutdown()
    return Finding("Ray", bool(there), f"{len(there)} machines: {'; '.join(map(str, there))}")
