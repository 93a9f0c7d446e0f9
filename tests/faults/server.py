"""An MLflow server that can be killed, frozen and started anew, and a gate before it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import requests

from rfray import tracking


class Server:
    """`mlflow server` on sqlite; artifacts in a folder, through the server or not.

    Args:
        folder: For its database and artifacts.
        serves_artifacts: Whether artifacts go through the server.
    """

    def __init__(self, folder: Path, *, serves_artifacts: bool) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.address = f"http://127.0.0.1:{self.port}"
        where = (
            ["--artifacts-destination", str(folder / "served")]
            if serves_artifacts
            else ["--no-serve-artifacts", "--default-artifact-root", (folder / "files").as_uri()]
        )
        self._command = [
            sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1",
            "--port", str(self.port), "--workers", "1",
            "--backend-store-uri", f"sqlite:///{folder}/server.db", *where,
        ]  # fmt: skip
        tracking.make_database(folder / "server.db")
        self.start()
        self._wait_until_healthy()

    def start(self) -> None:
        self._process = subprocess.Popen(
            self._command,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def send(self, number: int) -> None:
        os.killpg(self._process.pid, number)

    def kill(self) -> None:
        self.send(signal.SIGKILL)
        self._process.wait()

    def _wait_until_healthy(self) -> None:
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            assert self._process.poll() is None, "the server ended"
            try:
                with urllib.request.urlopen(f"{self.address}/health", timeout=5):
                    return
            except (urllib.error.URLError, ConnectionError, TimeoutError):
                time.sleep(0.2)
        raise AssertionError("the server never answered")


class Gate:
    """Passes requests on to a server, late or not at all.

    Attributes:
        refuses: Answer 503 to everything.
        delay: Seconds that each request waits.
    """

    def __init__(self) -> None:
        self.refuses = False
        self.delay = 0.0


@contextmanager
def gate_before(server: Server):
    """A gate, and its address."""
    gate = Gate()

    class Handler(BaseHTTPRequestHandler):
        def _pass_on(self):
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            if gate.refuses:
                self.send_error(503)
                return
            time.sleep(gate.delay)
            answer = requests.request(
                self.command,
                server.address + self.path,
                data=body,
                headers={"Content-Type": self.headers.get("Content-Type", "")},
                timeout=60,
            )
            self.send_response(answer.status_code)
            self.send_header("Content-Type", answer.headers.get("Content-Type", ""))
            self.send_header("Content-Length", str(len(answer.content)))
            self.end_headers()
            self.wfile.write(answer.content)

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _pass_on

        def log_message(self, *_):
            """Say nothing."""

    front = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=front.serve_forever, daemon=True)
    thread.start()
    try:
        yield gate, f"http://127.0.0.1:{front.server_address[1]}"
    finally:
        front.shutdown()
        front.server_close()
