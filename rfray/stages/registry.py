"""Every stage by its name: each module of this package with a `STAGE`, and those of plugins.

A stage of a plugin that cannot be used is left out; the others still work.
"""

import importlib
import pkgutil
from collections.abc import Mapping
from graphlib import TopologicalSorter
from types import MappingProxyType
from typing import Any

import rfray.stages
from rfray.errors import UserError
from rfray.parameters import Parameters
from rfray.plugins import ByPlugins, Shelf
from rfray.stages.stage import Stage

KEYS_OF_A_STUDY = (
    *("name", "axes", "zip", "exclude", "when", "knobs", "data", "resources", "plugins", "keep"),
)
"""The other keys of a sweep file: no stage can have these names."""


def stages() -> Mapping[str, Stage[Any]]:
    """All stages by name, each after those that it reads."""
    return _all()[0]


def broken_stages() -> Mapping[str, UserError]:
    """Why stages of plugins cannot be used, by their names."""
    return _all()[1]


def sections() -> Mapping[str, Stage[Any]]:
    """The stages with a section in a sweep file: all but a search's samples."""
    return {name: stage for name, stage in stages().items() if stage.scope != "sample"}


def stage_code(name: str) -> str:
    """Digest of the code of a plugin's stage, which is part of keys; empty for rfray's own."""
    return "" if name in own_stages() else OUTSIDE.code(name)


@ByPlugins
def own_stages() -> Mapping[str, Stage[Any]]:
    """The stages of this package, by name."""
    modules = (
        importlib.import_module(f"rfray.stages.{module.name}")
        for module in pkgutil.iter_modules(rfray.stages.__path__)
    )
    declared = (getattr(module, "STAGE", None) for module in modules)
    return {stage.name: stage for stage in declared if stage is not None}


@ByPlugins
def _all() -> tuple[Mapping[str, Stage[Any]], Mapping[str, UserError]]:
    """The stages by name, each after those that it reads, and the errors of the others."""
    found, broken = dict(own_stages()), {}
    waiting: dict[str, Stage[Any]] = {}
    for name in OUTSIDE.plugins():
        try:
            waiting[name] = OUTSIDE.get(name)
        except UserError as error:
            broken[name] = error
    while ready := [name for name in waiting if found.keys() >= set(waiting[name].reads)]:
        found |= {name: waiting.pop(name) for name in ready}
    for name, stage in waiting.items():
        missing = next(one for one in stage.reads if one not in found)
        why = "reads it in turn" if missing in waiting else "does not exist"
        broken[name] = OUTSIDE.plugins()[name].refused(f"reads the stage '{missing}', which {why}")
    graph = TopologicalSorter({name: found[name].reads for name in sorted(found)})
    ordered = {name: found[name] for name in graph.static_order()}
    return MappingProxyType(ordered), MappingProxyType(broken)


def _unfit(name: str, thing: Any) -> str | None:
    """Why an object of a plugin is not a stage of this name; None if it is one."""
    if not isinstance(thing, Stage):
        return f"is a {type(thing).__name__}, not a rfray.stages.stage.Stage"
    if thing.name != name:
        return f"has the name '{thing.name}'"
    if not name.isidentifier():
        return "its name may have only letters, digits and _"
    return _misdeclared(thing)


def _misdeclared(thing: Stage[Any]) -> str | None:
    if thing.scope not in ("cell", "seeds", "network"):
        return f"has the scope '{thing.scope}' (valid: cell, network, seeds)"
    if not (isinstance(thing.parameters, type) and issubclass(thing.parameters, Parameters)):
        return "its parameters are not a subclass of rfray.parameters.Parameters"
    if thing.fan is not None and thing.fan.parameter not in thing.parameters.model_fields:
        return f"fans out '{thing.fan.parameter}', which is not one of its parameters"
    return None


OUTSIDE: Shelf[Stage[Any]] = Shelf("stages", lambda: {*own_stages(), *KEYS_OF_A_STUDY}, _unfit)
"""Stages of plugins."""
