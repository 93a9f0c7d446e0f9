"""Commands of rfray in processes of their own, forked from one that has Python's large packages.

Starting Python and importing PyTorch, Ray and MLflow anew takes longer than a small study does.
"""

from __future__ import annotations

import multiprocessing
import os
import runpy
import sys
from collections.abc import Callable, Mapping
from multiprocessing.process import BaseProcess
from pathlib import Path

from rfray.cli import main

_server = multiprocessing.get_context("forkserver")
_server.set_forkserver_preload(
    ["ray.tune", "mlflow.tracking", "rfray.driver.sweep_run", "rfray.engine.ray_executor", "forked"]
)


def start(
    words: list[str],
    *,
    cwd: Path,
    out: Path,
    err: Path,
    environment: Mapping[str, str],
    run: Callable[[list[str]], object] = main,
) -> BaseProcess:
    """Start `rfray WORDS` in a folder; what it prints is appended to two files, or to one.

    Args:
        run: Takes the words; a function of a test in place of rfray's own.
    """
    arguments = (run, words, cwd, out, err, dict(environment))
    process = _server.Process(target=_run, args=arguments)
    process.start()
    return process


def _run(
    run: Callable[[list[str]], object],
    words: list[str],
    cwd: Path,
    out: Path,
    err: Path,
    environment: dict[str, str],
) -> None:
    os.setsid()
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)
    for number, path in ((1, out), (2, err)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND), number)
    sys.argv = ["rfray", *words]
    if "RFRAY_INJECTED" in environment:
        sys.path.insert(0, environment["RFRAY_INJECTED"])
        runpy.run_path(f"{environment['RFRAY_INJECTED']}/sitecustomize.py")
    run(words)
