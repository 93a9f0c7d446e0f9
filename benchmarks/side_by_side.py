"""What the benchmarks share: contestants that alternate, versions, a Markdown table."""

from __future__ import annotations

import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

ALIGNED_LEFT, ALIGNED_RIGHT = "---", "--:"


@dataclass(frozen=True)
class Contestant:
    """A call to time, how often, and how often before that without counting."""

    call: Callable[[], object]
    repeats: int
    uncounted: int = 0


def alternating(contestants: Mapping[str, Contestant]) -> dict[str, list[float]]:
    """Seconds of each contestant's counted calls; the contestants take turns until all are done.

    So what a busy machine costs falls on all of them alike.
    """
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for turn in range(max(one.uncounted + one.repeats for one in contestants.values())):
        for name, contestant in contestants.items():
            if turn < contestant.uncounted + contestant.repeats:
                started = time.perf_counter()
                contestant.call()
                taken = time.perf_counter() - started
                print(f"{name}: {taken:.2f} s", flush=True)
                if turn >= contestant.uncounted:
                    seconds[name].append(taken)
    return seconds


def ratio(slower: Sequence[float], faster: Sequence[float]) -> float:
    """The median of the ratios of two contestants' calls, turn by turn."""
    return statistics.median(s / f for s, f in zip(slower, faster, strict=False))


def versions(*packages: str) -> str:
    """Of PyTorch, some more packages, Python and the machine, for the line above a table."""
    named = [f"{package} {version(package)}" for package in ("torch", *packages)]
    return ", ".join([*named, f"Python {platform.python_version()}", platform.machine()])


def print_and_write(
    path: Path,
    title: str,
    note: str,
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    beneath: str = "",
) -> None:
    """Print a Markdown page with one table, numbers to the right, and write it to `path`."""
    numbers = [ALIGNED_LEFT, *[ALIGNED_RIGHT] * (len(columns) - 1)]
    lines = [f"| {' | '.join(cells)} |" for cells in (columns, *rows)]
    lines.insert(1, f"|{'|'.join(numbers)}|")
    page = "\n".join([title, "", note, "", *lines, *(["", beneath] if beneath else [])]) + "\n"
    print(page, flush=True)
    path.parent.mkdir(exist_ok=True)
    path.write_text(page, encoding="utf-8")
