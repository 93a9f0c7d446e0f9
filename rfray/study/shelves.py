"""All plug-ins of every kind: which of them cannot be used, and why."""

from collections.abc import Iterator
from typing import Any

from rfray.data.registry import OUTSIDE as DATASETS
from rfray.errors import UserError
from rfray.models.knobs import OUTSIDE as KNOBS
from rfray.models.outside import OUTSIDE as NETWORKS
from rfray.plugins import Plugin, Shelf
from rfray.stages.registry import OUTSIDE as STAGES
from rfray.stages.registry import broken_stages

SHELVES: tuple[Shelf[Any], ...] = (STAGES, NETWORKS, DATASETS, KNOBS)
"""The shelves of all registries."""


def refuse_wrong_files() -> None:
    """UserError if something from a plug-in file of the study cannot be used."""
    for shelf in SHELVES:
        for plugin in shelf.offers():
            problem = _verdict(shelf, plugin) if plugin.from_file else None
            if problem is not None:
                raise problem


def left_out() -> Iterator[str]:
    """A sentence for each plug-in of an installed package that cannot be used.

    The code of networks and data sets is not run: only what is known without it is said.
    """
    known = [*broken_stages().values()]
    for shelf in SHELVES:
        problems = (shelf.at_once(plugin) for plugin in shelf.offers())
        known += [problem for problem in problems if problem is not None]
    yield from dict.fromkeys(map(str, known))


def verdicts() -> Iterator[tuple[Plugin, UserError | None]]:
    """Each plug-in, with what is wrong with it or None. Runs their code."""
    for shelf in SHELVES:
        for plugin in shelf.offers():
            yield plugin, _verdict(shelf, plugin)


def _verdict(shelf: Shelf[Any], plugin: Plugin) -> UserError | None:
    problem = shelf.verdict(plugin)
    if problem is None and shelf is STAGES:
        return broken_stages().get(plugin.name)
    return problem
