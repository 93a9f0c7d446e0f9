"""The command line, in the process of the tests, or in one of its own, which takes seconds."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import chdir, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest import mock

import forked

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
    *arguments: object,
    cwd: Path,
    environment: Mapping[str, str] | None = None,
    run: Callable[[list[str]], object] = main,
) -> Answer:
    """Run a command in a folder, in a process that remembers nothing of rfray.

    Args:
        environment: All its variables; those of this process if it is not given.
        run: Takes the words; a function of a test in place of rfray's own.
    """
    with TemporaryDirectory() as folder:
        out, err = Path(folder, "out"), Path(folder, "err")
        words = [str(argument) for argument in arguments]
        variables = environment or os.environ
        process = forked.start(words, cwd=cwd, out=out, err=err, environment=variables, run=run)
        process.join(300)
        assert process.exitcode is not None, f"still running: {words}"
        return Answer(process.exitcode, out.read_text(), err.read_text())
