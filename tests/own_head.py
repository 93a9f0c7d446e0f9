"""A real `ray start --head` of a test's own: its HOME, ports and folder, and its end."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil


@dataclass(frozen=True)
class Head:
    """A running head.

    Attributes:
        address: Where it listens.
        temporary: RAY_TMPDIR of those whom `auto` is to lead here.
    """

    address: str
    temporary: Path


def plain_environment(home: Path, **more: str) -> dict[str, str]:
    """This process's environment without anything of Ray, with a home of its own."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    return {**kept, "HOME": str(home), **more}


def put_token(home: Path, token: str) -> None:
    folder = home / ".ray"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "auth_token").write_text(token)


@contextmanager
def own_head(
    token: str | None, *, cpus: int = 1, gpus: int = 0, **environment: str
) -> Iterator[Head]:
    """A head that asks for `token`, or for none, and says that it has so many cores and GPUs."""
    # Short: the sockets below it have at most 107 characters.
    folder = Path(tempfile.mkdtemp(prefix="rf", dir="/tmp"))
    home, port = folder / "home", _free_port()
    home.mkdir()
    if token is not None:
        put_token(home, token)
    try:
        subprocess.run(
            [
                sys.executable, "-m", "ray.scripts.scripts", "start", "--head",
                f"--port={port}", f"--ray-client-server-port={_free_port()}",
                f"--temp-dir={folder / 'ray'}", "--include-dashboard=false",
                f"--num-cpus={cpus}", f"--num-gpus={gpus}",
                "--min-worker-port=0", "--max-worker-port=0", "--disable-usage-stats",
                "--object-store-memory=100000000",
            ],
            env=plain_environment(home, **environment),
            capture_output=True, timeout=120, check=True,
        )  # fmt: skip
        yield Head(f"127.0.0.1:{port}", folder)
    finally:
        _kill_all_of(str(folder))
        shutil.rmtree(folder, ignore_errors=True)


def _kill_all_of(folder: str) -> None:
    """`ray stop` would also stop the Ray of other tests."""
    for process in list(psutil.process_iter()):
        with contextlib.suppress(psutil.Error):
            if process.pid != os.getpid() and any(folder in word for word in process.cmdline()):
                for one in [process, *process.children(recursive=True)]:
                    with contextlib.suppress(psutil.Error):
                        one.kill()


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port
