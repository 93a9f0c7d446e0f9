"""The wheel holds all that rfray needs: installed, it works from any folder without a checkout."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parent.parent


def run(*command, cwd, **environment):
    return subprocess.run(
        [sys.executable, *map(str, command)],
        cwd=cwd, env={**os.environ, **environment}, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A folder with the wheel's content; Python finds it before the checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    build = ["-m", "pip", "--disable-pip-version-check", "wheel", CHECKOUT, "--wheel-dir", folder]
    run(*build, "--no-deps", "--no-build-isolation", cwd=folder)
    (wheel,) = folder.glob("rfray-*.whl")
    site = folder / "site"
    run("-m", "pip", "install", "--no-deps", "--target", site, wheel, cwd=folder)
    return site


@pytest.mark.parametrize("sweep", sorted(path.stem for path in CHECKOUT.glob("sweeps/*.yaml")))
def test_every_shipped_sweep_can_be_planned(installed, tmp_path, sweep):
    where = ["-c", "import rfray; print(rfray.__file__)"]
    assert run(*where, cwd=tmp_path, PYTHONPATH=str(installed)).startswith(str(installed))
    plan = run("-m", "rfray.cli", "plan", sweep, cwd=tmp_path, PYTHONPATH=str(installed))
    assert "receptive field" in plan


def test_the_shipped_report_and_its_published_values_are_there(installed, tmp_path):
    code = (
        "from rfray.analysis import load_report; from rfray.sweep_file import shipped_folder; "
        "report = load_report(shipped_folder('analysis') / 'paper.yaml'); "
        "print(len(report.layout.tables), shipped_folder('analysis'))"
    )
    tables, folder = run("-c", code, cwd=tmp_path, PYTHONPATH=str(installed)).split()
    assert int(tables) > 4
    assert folder.startswith(str(installed))
    assert (Path(folder) / "published.csv").is_file()
    assert list((installed / "rfray" / "analysis" / "templates").iterdir())
