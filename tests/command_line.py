"""The command line, in the process of the tests, or in one of its own, which takes seconds."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from contextlib import chdir, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from unittest import mock

from rfray.cli import main


@dataclass(frozen=True)
class Answer:
    """What a command said, with the names of `subprocess.CompletedProcess`."""

    returncode: int
    stdout: str
    stderr: str


def rfray(*arguments: object, cwd: Path, environment: Mapping[str, str] | None = None) -> Answer:
    """Run a command in a folder."""
    out, err = StringIO(), StringIO()
    with (
        mock.patch.dict(os.environ, environment or {}),
        chdir(cwd),
        redirect_stdout(out),
        redirect_stderr(err),
    ):
        try:
            main([str(argument) for argument in arguments])
        except SystemExit as end:
            return Answer(int(end.code or 0), out.getvalue(), err.getvalue())
    raise AssertionError("main always exits")


def rfray_anew(
    *arguments: object, cwd: Path, environment: Mapping[str, str] | None = None
) -> Answer:
    """Run a command in a folder, in a process that remembers nothing."""
    done = subprocess.run(
        [sys.executable, "-m", "rfray.cli", *map(str, arguments)],
        cwd=cwd, capture_output=True, text=True, timeout=300, check=False,
        env={**os.environ, **(environment or {})},
    )  # fmt: skip
    return Answer(done.returncode, done.stdout, done.stderr)
