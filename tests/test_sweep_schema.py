"""The JSON schema and the reference page say of sweep files what the typed study says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from jsonschema import Draft202012Validator

from rfray import __version__
from rfray.cli import rfray
from rfray.commands.sweep_schema import reference_page, sweep_schema
from rfray.files.yaml_file import read_mapping
from rfray.stages.registry import sections

ROOT = Path(__file__).parent.parent
SHIPPED = sorted((ROOT / "sweeps").glob("*.yaml"))
SMALL = {"name": "s", "axes": {"dataset": ["digits"], "arch": ["vgg19_rf"], "kernel_size": [2],
                               "seed": [0]}}  # fmt: skip


def problems(document):
    return [error.message for error in Draft202012Validator(sweep_schema()).iter_errors(document)]


def test_it_is_a_json_schema():
    Draft202012Validator.check_schema(sweep_schema())


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_sweeps_keep_to_it_and_name_it_for_editors(path):
    text = path.read_text()
    assert problems(read_mapping(path)[0]) == []
    assert "# yaml-language-server: $schema=sweep.schema.json" in text.splitlines()


@pytest.mark.parametrize(
    "changes",
    [
        {"trian": {}},
        {"train": {"epoch": 5}},
        {"train": {"epochs": "five"}},
        {"train": {"epochs": 0}},
        {"train": {"schedule": "exponential"}},
        {"axes": {**SMALL["axes"], "arch": ["vgg20"]}},
        {"axes": {**SMALL["axes"], "seed": 0}},
        {"resources": {"trian": {"cpus": 2}}},
        {"resources": {"train": {"cpu": 2}}},
        {"name": "../elsewhere"},
    ],
)
def test_what_the_study_refuses_an_editor_marks(changes):
    assert problems({**SMALL, "train": {}, **changes}) != []


@pytest.mark.parametrize("stage", sections())
def test_a_stage_may_be_named_alone_or_left_out(stage):
    assert problems({**SMALL, stage: None}) == problems({**SMALL, stage: False}) == []


def test_a_time_limit_may_be_written_as_people_write_it():
    for written in (90, "90m"):
        assert problems({**SMALL, "resources": {"train": {"time_limit": written}}}) == []


def test_the_shipped_schema_and_page_are_those_of_this_version():
    """Made by `rfray schema > sweeps/sweep.schema.json`, `rfray reference > docs/sweep_file.md`."""
    assert json.loads((ROOT / "sweeps" / "sweep.schema.json").read_text()) == sweep_schema()
    assert (ROOT / "docs" / "sweep_file.md").read_text() == reference_page(__version__)


def test_the_page_explains_every_key():
    rows = [line for line in reference_page("1").splitlines() if line.startswith("| `")]
    assert len(rows) > 50
    assert all(line.count(" | ") == 3 and not line.endswith("|  |") for line in rows)


def test_the_command_line_prints_both():
    answer = CliRunner().invoke(rfray, ["schema"])
    assert json.loads(answer.output) == sweep_schema()
    assert CliRunner().invoke(rfray, ["reference"]).output == reference_page(__version__)
