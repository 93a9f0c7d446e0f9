"""The wheel holds all that rfray needs: installed, it works from any folder without a checkout."""

from __future__ import annotations

import csv
import os
import re
import shlex
import subprocess
import sys
import venv
from pathlib import Path
from site import getsitepackages

import pytest

CHECKOUT = Path(__file__).resolve().parent.parent


def run(*command, cwd, **environment):
    return subprocess.run(
        [sys.executable, *map(str, command)],
        cwd=cwd, env={**os.environ, **environment}, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel, built from the checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    build = ["-m", "pip", "--disable-pip-version-check", "wheel", CHECKOUT, "--wheel-dir", folder]
    run(*build, "--no-deps", "--no-build-isolation", cwd=folder)
    (built,) = folder.glob("rfray-*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel):
    """A folder with the wheel's content; Python finds it before the checkout."""
    folder = wheel.parent
    site = folder / "site"
    run("-m", "pip", "install", "--no-deps", "--target", site, wheel, cwd=folder)
    return site


def test_every_shipped_sweep_is_there_and_can_be_planned(installed, tmp_path):
    """One is planned here; tests/test_docs.py plans each."""
    shipped = {path.name for path in installed.glob("rfray/shipped/sweeps/*.yaml")}
    assert shipped == {path.name for path in CHECKOUT.glob("sweeps/*.yaml")}
    where = ["-c", "import rfray; print(rfray.__file__)"]
    assert run(*where, cwd=tmp_path, PYTHONPATH=str(installed)).startswith(str(installed))
    plan = run("-m", "rfray.cli", "plan", "quickstart", cwd=tmp_path, PYTHONPATH=str(installed))
    assert "receptive field" in plan


def test_the_shipped_report_and_its_published_values_are_there(installed, tmp_path):
    code = (
        "from rfray.analysis import load_report; "
        "from rfray.study.sweep_file import shipped_folder; "
        "report = load_report(shipped_folder('analysis') / 'paper.yaml'); "
        "print(len(report.layout.tables), shipped_folder('analysis'))"
    )
    tables, folder = run("-c", code, cwd=tmp_path, PYTHONPATH=str(installed)).split()
    assert int(tables) > 4
    assert folder.startswith(str(installed))
    assert (Path(folder) / "published.csv").is_file()
    assert list((installed / "rfray" / "analysis" / "templates").iterdir())


def documented(first_line, language):
    """The block of docs/extending.md that starts so."""
    text = (CHECKOUT / "docs" / "extending.md").read_text()
    (code,) = re.findall(rf"```{language}\n{re.escape(first_line)}\n(.*?)```", text, re.DOTALL)
    return code


@pytest.fixture
def environment(tmp_path):
    """A fresh environment: rfray is not in it, what rfray needs is found in that of the tests."""
    folder = tmp_path / "environment"
    venv.create(folder, symlinks=True, with_pip=False)
    (site,) = folder.glob("lib/python*/site-packages")
    (site / "needed.pth").write_text("\n".join(map(str, map(Path, getsitepackages()))))
    return folder / "bin"


def test_a_stage_in_a_package_of_its_own_from_an_empty_folder_to_its_table(
    wheel, environment, tmp_path
):
    """docs/extending.md, word for word; but rfray's wheel is the one just built."""
    folder = tmp_path / "my-norms"
    folder.mkdir()
    for name, language in (
        ("my_norms.py", "python"),
        ("pyproject.toml", "toml"),
        ("norms.yaml", "yaml"),
        ("weights.yaml", "yaml"),
    ):
        (folder / name).write_text(documented(f"# my-norms/{name}", language))
    rest = documented("pip install rfray ./my-norms", "bash").splitlines()
    pip = [environment / "python", "-m", "pip", "--disable-pip-version-check", "install"]
    pip += ["--no-deps", "--no-build-isolation", "--no-index"]
    outside = {name: one for name, one in os.environ.items() if name != "PYTHONPATH"}
    said = {}
    for command in (shlex.join(map(str, [*pip, wheel, "./my-norms"])), *rest[1:]):
        done = subprocess.run(
            ["sh", "-c", command],
            cwd=folder if command.startswith("rfray") else tmp_path,
            env={**outside, "PATH": f"{environment}:{os.environ['PATH']}"},
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        said[command] = done.stdout
    assert rest[0] == "cd my-norms"
    assert "weight_norm" in said["rfray plan norms.yaml"]
    (table,) = folder.glob("rfray-results/analysis/norms/tables/weights.csv")
    rows = list(csv.DictReader(table.open()))
    assert [(row["receptive_field"], row["n"]) for row in rows if row["metric"] == "norm"] == [
        ("181", "2"),
        ("715", "2"),
    ]
    (report,) = folder.glob("rfray-results/analysis/norms/report.html")
    assert "Norm of the weights" in report.read_text()
