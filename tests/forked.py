"""Commands of rfray in processes of their own, forked from one that has Python's large packages.

Starting Python and importing PyTorch, Ray and MLflow anew takes longer than a small study does.
"""

from __future__ import annotations

import multiprocessing
import os
import runpy
import sys
from collections.abc import Mapping
from multiprocessing.process import BaseProcess
from pathlib import Path

from rfray.cli import main

_server = multiprocessing.get_context("forkserver")
_server.set_forkserver_preload(
    ["ray.tune", "mlflow.tracking", "rfray.driver.sweep_run", "rfray.engine.ray_executor", "forked"]
)


def start(
    words: list[str], *, cwd: Path, out: Path, err: Path, environment: Mapping[str, str]
) -> BaseProcess:
    """Start `rfray WORDS` in a folder; what it prints is appended to two files, or to one."""
    process = _server.Process(target=_run, args=(words, cwd, out, err, dict(environment)))
    process.start()
    return process


def _run(words: list[str], cwd: Path, out: Path, err: Path, environment: dict[str, str]) -> None:
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
    main(words)
