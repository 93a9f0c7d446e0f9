"""python docs/screenshots.py: take the pictures of these pages anew, from a real sweep.

Runs the quickstart on one seed in a terminal of tmux, and takes its screen on the way; then
`rfray plan`, `rfray analyze`, and MLflow's pages and the report in headless Chromium. Takes a few
minutes. Needs `pip install -e '.[test]'` and Debian's tmux, chromium and chromium-driver.
"""

from __future__ import annotations

import os
import shlex
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from mlflow.tracking import MlflowClient
from rich.ansi import AnsiDecoder
from rich.console import Console
from selenium import webdriver
from selenium.webdriver.chrome.service import Service

IMAGES = Path(__file__).parent / "images"
COLUMNS, ROWS = 110, 34
SWEEP = ["quickstart", "axes.kernel_size=[2,3,5]", "axes.seed=[0,1]", "axes.arch=[vgg19_rf]"]
READY_SECONDS = 120


def save_terminal(screen: str, title: str, path: Path) -> None:
    """A terminal's screen, with its colours, as a vector."""
    lines = screen.rstrip().splitlines()
    with Path(os.devnull).open("w") as nowhere:
        console = Console(record=True, width=COLUMNS, height=len(lines), file=nowhere)
        # One decoder for all lines: a colour may go on in the next one.
        for line in AnsiDecoder().decode("\n".join(lines)):
            console.print(line, soft_wrap=True)
    console.save_svg(str(path), title=title)


def screen_of_a_sweep(storage: Path) -> str:
    """Run a sweep to its end in tmux; its screen when half of the runs were done."""
    command = [sys.executable, "-m", "rfray.sweep", *SWEEP, "--storage", str(storage)]
    size = ["-x", str(COLUMNS), "-y", str(ROWS)]
    session = "rfray-screenshots"
    subprocess.run(
        ["tmux", "new-session", "-d", "-s", session, *size, shlex.join(command)], check=True
    )
    half = ""
    while (shot := screen(session)) is not None:
        if "cores in use" in shot and ("hessian-" in shot or not half):
            half = shot
        time.sleep(1)
    return half


def screen(session: str) -> str | None:
    """What a terminal of tmux shows, with its colours; None once it has ended."""
    capture = ["tmux", "capture-pane", "-e", "-p", "-t", session]
    shot = subprocess.run(capture, capture_output=True, text=True, check=False)
    return shot.stdout if shot.returncode == 0 else None


@contextmanager
def browser(width: int, height: int) -> Iterator[webdriver.Chrome]:
    options = webdriver.ChromeOptions()
    options.binary_location = "/usr/bin/chromium"
    for argument in (
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        f"--window-size={width},{height}",
    ):
        options.add_argument(argument)
    driver = webdriver.Chrome(options=options, service=Service("/usr/bin/chromedriver"))
    try:
        yield driver
    finally:
        driver.quit()


@contextmanager
def mlflow_ui(tracking_uri: str) -> Iterator[str]:
    """MLflow's pages on a store, as the docs say to start them; their address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        "mlflow",
        "ui",
        "--backend-store-uri",
        tracking_uri,
        "--port",
        str(port),
        "--workers",
        "1",
    ]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        try:
            wait_until(lambda: socket.create_connection(("127.0.0.1", port), timeout=1).close())
            yield f"http://127.0.0.1:{port}"
        finally:
            server.terminate()


def wait_until(connect: Callable[[], None]) -> None:
    deadline = time.monotonic() + READY_SECONDS
    while True:
        try:
            return connect()
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.5)


def shoot(driver: webdriver.Chrome, address: str, path: Path, needs: str) -> None:
    """A page once it shows `needs`, and what it draws then has come to rest."""
    driver.get(address)
    deadline = time.monotonic() + READY_SECONDS
    while needs not in driver.find_element("tag name", "body").text:
        if time.monotonic() > deadline:
            raise RuntimeError(f"{address} does not show '{needs}'")
        time.sleep(0.5)
    for close in driver.find_elements("css selector", "button[aria-label='Close']"):
        close.click()  # MLflow's assistant
    time.sleep(5)
    driver.save_screenshot(str(path))


def rfray(*arguments: str) -> str:
    command = [sys.executable, "-m", "rfray.cli", *arguments]
    colours = {**os.environ, "FORCE_COLOR": "1", "COLUMNS": str(COLUMNS)}
    return subprocess.run(command, env=colours, capture_output=True, text=True, check=True).stdout


def main() -> None:
    IMAGES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        storage, out = Path(name) / "rfray-results", Path(name) / "out"
        save_terminal(screen_of_a_sweep(storage), "python -m rfray.sweep", IMAGES / "sweep.svg")
        save_terminal(
            rfray(
                "plan",
                *SWEEP,
                "--storage",
                str(Path(name) / "empty"),
                "--slots",
                "2",
                "--slot",
                "cpu",
            ),
            "rfray plan --slots 2 --slot cpu",
            IMAGES / "plan.svg",
        )
        rfray("analyze", "--storage", str(storage), "--out", str(out))
        uri = f"sqlite:///{storage}/mlflow.db"
        client = MlflowClient(uri)
        experiment = client.get_experiment_by_name("quickstart").experiment_id
        (trained, *_) = client.search_runs([experiment], "tags.`rfray.stage` = 'train'")
        with mlflow_ui(uri) as address, browser(1400, 900) as driver:
            runs = f"{address}/#/experiments/{experiment}"
            shoot(driver, f"{runs}/runs", IMAGES / "mlflow-runs.png", trained.info.run_name)
            page = f"{runs}/runs/{trained.info.run_id}"
            shoot(driver, page, IMAGES / "mlflow-run.png", trained.info.run_name)
            shoot(driver, f"{page}/model-metrics", IMAGES / "mlflow-metrics.png", "test_accuracy")
            shoot(driver, f"{page}/artifacts", IMAGES / "mlflow-artifacts.png", "model.safetensors")
            shoot(driver, (out / "report.html").as_uri(), IMAGES / "report.png", "quickstart")


if __name__ == "__main__":
    main()
