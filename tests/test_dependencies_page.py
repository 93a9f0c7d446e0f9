"""docs/dependencies.md gives a reason for every package of pyproject.toml."""

from __future__ import annotations

import re
import tomllib
from itertools import chain
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parent.parent


def test_every_dependency_has_its_reason():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    listed = [*project["dependencies"], *chain(*project["optional-dependencies"].values())]
    page = (ROOT / "docs" / "dependencies.md").read_text()
    rows = [line.split(" | ") for line in page.splitlines() if line.startswith("| ")]
    named = set(re.findall(r"`([\w-]+)(?:\[\w+\])?`", " ".join(" ".join(row[:2]) for row in rows)))
    wanted = {Requirement(line).name for line in listed}
    assert wanted <= named


def test_every_file_that_the_page_names_exists():
    page = (ROOT / "docs" / "dependencies.md").read_text()
    named = re.findall(r"`(rfray/[\w/.]+)`", page)
    assert named
    assert [name for name in named if not (ROOT / name).exists()] == []
