"""Stages that keep rfray's places in the graph, and sleep instead of computing."""

from __future__ import annotations

import importlib.util
import os
import random
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import rfray.stages.stage
from rfray.stages.stage import Stage, StageContext

LONGEST_VARIABLE = "RFRAY_BENCHMARK_LONGEST"
SHORTEST = 0.5


def rfrays_own(name: str) -> ModuleType:
    """The module of rfray that stands behind one of ours."""
    path = Path(rfray.stages.stage.__file__).with_name(f"{name}.py")
    spec = importlib.util.spec_from_file_location(f"rfray.stages.own_{name}", path)
    if spec is None or spec.loader is None:
        raise ImportError(f"rfray has no stage {name}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where the types of its parameters are looked up
    spec.loader.exec_module(module)
    return module


def asleep(stage: Stage[Any]) -> Stage[Any]:
    """The same stage, which sleeps."""
    return replace(stage, run=_sleep)


def seconds_of(stage: str, seed: int, variant: dict[str, Any]) -> float:
    """How long a node sleeps: between half a second and RFRAY_BENCHMARK_LONGEST; 0 without it."""
    longest = os.environ.get(LONGEST_VARIABLE)
    if not longest:
        return 0.0
    return random.Random(f"{stage} {seed} {variant}").uniform(SHORTEST, float(longest))


def _sleep(context: StageContext[Any]) -> None:
    stage = "prune" if context.variant else "train"
    time.sleep(seconds_of(stage, context.cell.seed, dict(context.variant)))
    context.report(0, {"test_accuracy": 0.0})
