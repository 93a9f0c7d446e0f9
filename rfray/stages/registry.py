"""Every stage by its name: each module of this package that declares a `STAGE`."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping
from functools import cache
from graphlib import TopologicalSorter
from types import MappingProxyType
from typing import Any

import rfray.stages
from rfray.stages.stage import Stage


@cache
def stages() -> Mapping[str, Stage[Any]]:
    """The stages found in the package, by name, each after those that it reads."""
    found: dict[str, Stage[Any]] = {}
    for module in pkgutil.iter_modules(rfray.stages.__path__):
        declared = getattr(importlib.import_module(f"rfray.stages.{module.name}"), "STAGE", None)
        if declared is not None:
            found[declared.name] = declared
    graph = TopologicalSorter({name: found[name].reads for name in sorted(found)})
    return MappingProxyType({name: found[name] for name in graph.static_order()})


def sections() -> Mapping[str, Stage[Any]]:
    """The stages that have a section of their own in a sweep file: all but a search's samples."""
    return {name: stage for name, stage in stages().items() if stage.scope != "sample"}
